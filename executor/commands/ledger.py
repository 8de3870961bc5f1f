"""`calyx ledger`: the entries and the checkpoint, as they are."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
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
    from executor.homes.home import Home
    from ledger.chain import Entry
    from ledger.record import Record
    from ledger.statement import Statement
    from policies.fold.state import State

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

    The ledger up to its end is verified first: all of it, or what is new since you last did. When an entry is not
    lawful, those before it are listed, and then the refusal.
    """
    with opened(home) as place:
        try:
            state = check_begun(place.open_replay().sync())
        except CalyxError:
            rows = _before_the_refusal(place, start, limit)
            if rows:
                _print(rows, as_json)
            raise
        rows = _listed(place, state, max(0, state.size - limit) if start is None else start, limit)
    _print(rows, as_json)


def _listed(home: Home, state: State, start: int, limit: int) -> list[dict[str, Any]]:
    """Entries that are those that were verified, byte by byte."""
    from ledger.chain import ChainBroken
    from ledger.record import parse_record

    rows: list[dict[str, Any]] = []
    end = min(state.size, start + limit)
    for data in home.open_store().read(start, end) if start < end else ():
        record = parse_record(data)
        seq = start + len(rows)
        if record.leaf != state.history.leaf(seq):
            raise ChainBroken(seq, "prev", "it is not the one that was verified before")
        rows.append(_row(record))
    return rows


def _before_the_refusal(home: Home, start: int | None, limit: int) -> list[dict[str, Any]]:
    """The entries before the one that is wrong."""
    rows: deque[dict[str, Any]] = deque(maxlen=limit if start is None else None)

    def note_entry(entry: Entry, state: State) -> None:
        del state
        if start is None or start <= entry.seq < start + limit:
            rows.append(_row(entry.record))

    with suppress(CalyxError):
        home.open_replay(note_entry).sync()
    return list(rows)


@app.command()
def checkpoint(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print the log's newest signed checkpoint, after verifying the ledger under it.

    Example: calyx ledger checkpoint > checkpoint.txt

    Keep it elsewhere: a ledger that is cut later contradicts it.
    """
    with opened(home) as place:
        replay = place.open_replay()
        check_begun(replay.sync())
    if as_json:
        from ledger.checkpoint import peek_checkpoint

        # The replay verified it.
        said = peek_checkpoint(replay.checkpoint)
        shown = {"origin": said.origin, "size": said.size, "root": said.root.hex()}
        say_json({"ok": True, **shown, "checkpoint": replay.checkpoint.decode("utf-8")})
    elif on_terminal():
        say(*replay.checkpoint.decode("utf-8").removesuffix("\n").split("\n"))
    else:
        write_out(replay.checkpoint)


def _print(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        say_json(rows)
        return
    say_table(
        ("entry", "time", "by", "kind", "about", "what"),
        [(str(r["seq"]), r["timestamp"], r["by"], r["kind"], _about(r), r["what"]) for r in rows],
    )


def _row(record: Record) -> dict[str, Any]:
    from ledger.statement import parse_statement

    statement = parse_statement(record.envelope.body)
    return {
        "seq": record.seq,
        "timestamp": record.time,
        "by": statement.by,
        "keyid": record.envelope.keyid,
        "kind": statement.kind,
        "lease_id": _id_of(statement, "lease", "LEASE-"),
        "intent_id": _id_of(statement, "intent", "INT-"),
        "what": _what(statement.predicate),
        "digest": statement.digest,
        "leaf": record.leaf,
    }


def _id_of(statement: Statement, kind: str, prefix: str) -> str | None:
    """The id of the lease or intent that an entry makes, or is about."""
    if statement.kind == kind:
        return str(statement.predicate["id"])
    # Every other subject bears the name of a kind.
    return statement.subject_name if statement.subject_name.startswith(prefix) else None


def _about(row: dict[str, Any]) -> str:
    return row["lease_id"] or row["intent_id"] or ""


def _what(predicate: dict[str, Any]) -> str:
    """The few fields that tell entries of one kind apart."""
    detail = predicate.get("detail")
    if isinstance(detail, dict):
        names = ("tier", "instance", "cause", "gate", "verdict", "code", "text")
        return " ".join([str(detail.get("type", "")), *(str(detail[n]) for n in names if detail.get(n) is not None)])
    fields = ("type", "role", "verdict", "verb", "epoch", "target", "what", "reason", "summary", "text", "origin")
    return " ".join(str(predicate[name]) for name in fields if predicate.get(name) is not None)
