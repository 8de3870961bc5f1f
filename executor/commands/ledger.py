"""`calyx ledger`: the entries and the checkpoint, as they are."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import typer

from executor.commands.backup import backup
from executor.commands.common import HomeOption, JsonOption, check_begun, noun, opened
from executor.commands.export import export
from executor.commands.fsck import fsck
from executor.commands.proof import proof
from executor.commands.terminal import on_terminal, say, say_json, say_table, write_out
from keys.errors import CalyxError

if TYPE_CHECKING:
    from ledger.chain import Entry
    from policies.state import State

app = noun("Read the ledger, prove what is in it, and export it.")
app.command()(proof)
app.command()(export)
app.command()(fsck)
app.command()(backup)


@app.command()
def log(
    home: HomeOption = None,
    start: Annotated[int | None, typer.Option("--from", min=0, help="The first entry to list.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many entries to list.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List entries: the last ones, or those from a number on.

    Example: calyx ledger log --from 0 --limit 20

    Every entry up to the end is verified first. When one is not lawful, the entries before it are listed, and then the
    refusal.
    """
    rows: deque[dict[str, Any]] = deque(maxlen=limit if start is None else None)

    def note_entry(entry: Entry, state: State) -> None:
        del state
        if start is None or start <= entry.seq < start + limit:
            rows.append(_row(entry))

    with opened(home) as place:
        replay = place.open_replay(note_entry)
        try:
            check_begun(replay.sync())
        except CalyxError:
            if rows:
                _print(list(rows), as_json)
            raise
    _print(list(rows), as_json)


@app.command()
def checkpoint(home: HomeOption = None) -> None:
    """Print the log's newest signed checkpoint, after verifying the ledger under it.

    Example: calyx ledger checkpoint > checkpoint.txt

    Keep it elsewhere: a ledger that is cut later contradicts it.
    """
    with opened(home) as place:
        replay = place.open_replay()
        check_begun(replay.sync())
    if on_terminal():
        say(*replay.checkpoint.decode("utf-8").removesuffix("\n").split("\n"))
    else:
        write_out(replay.checkpoint)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        say_json(rows)
        return
    say_table(
        ("entry", "time", "by", "kind", "about", "what"),
        [(str(r["seq"]), r["time"], r["by"], r["kind"], r["about"], r["what"]) for r in rows],
    )


def _row(entry: Entry) -> dict[str, Any]:
    from ledger.statement import parse_statement

    statement = parse_statement(entry.record.envelope.body)
    about = statement.predicate.get("id") or statement.subject_name
    return {
        "seq": entry.seq,
        "time": entry.record.time,
        "by": statement.by,
        "keyid": entry.record.envelope.keyid,
        "kind": statement.kind,
        "about": "" if about == statement.kind else str(about),
        "what": _what(statement.predicate),
        "digest": statement.digest,
        "leaf": entry.leaf,
    }


def _what(predicate: dict[str, Any]) -> str:
    """The few fields that tell entries of one kind apart."""
    detail = predicate.get("detail")
    if isinstance(detail, dict):
        names = ("tier", "instance", "cause", "gate", "verdict", "code", "text")
        return " ".join([str(detail.get("type", "")), *(str(detail[n]) for n in names if detail.get(n) is not None)])
    fields = ("type", "role", "verdict", "verb", "epoch", "target", "what", "reason", "summary", "text", "origin")
    return " ".join(str(predicate[name]) for name in fields if predicate.get(name) is not None)
