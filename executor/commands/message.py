"""`calyx message`: what those who may sign say to each other, where nobody can deny it later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from executor.commands.common import (
    AsOption,
    ClockOption,
    HomeOption,
    JsonOption,
    KeyOption,
    YesOption,
    check_begun,
    find_message,
    noun,
    opened,
)
from executor.commands.signing import PrepareOption, sign_and_submit
from executor.commands.terminal import ask_words, say, say_json, say_table, say_theirs
from keys.errors import Refused, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.views.messages import Message
    from ledger.store import Reader
    from policies.fold.state import State

MAX_WORDS: Final = 200
"""Characters of a message that a list shows; `calyx message show` has all of it."""

app = noun("Ask, answer and acknowledge, signed and in the ledger.")

MessageArgument = Annotated[
    str, typer.Argument(metavar="MESSAGE", help="The first 12 digits of its digest; calyx message list has them.")
]
WordsArgument = Annotated[
    str, typer.Argument(metavar="[TEXT]", help="What you say; asked for where it is left out.", show_default=False)
]


@app.command()
def ask(
    text: WordsArgument = "",
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="PRINCIPAL", help="Who is to answer; else whoever can.")
    ] = None,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Ask a question.

    Example: calyx message ask "May the database be moved on Friday?" --to ben

    A person who is named has it in the inbox until they answer. What is said is public, and stays.
    """
    with opened(home) as place:
        said = _Said("question", text, to, yes=yes, accept_clock=accept_clock)
        _say(place, said, None, key, as_principal, prepare)


@app.command()
def answer(
    message: MessageArgument,
    text: WordsArgument = "",
    *,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Answer a message. A question to you leaves your inbox; one to somebody else stays in theirs.

    Example: calyx message answer 0f6cc2b4a1d9 "Yes, after noon"
    """
    with opened(home) as place:
        said = _Said("answer", text, None, yes=yes, accept_clock=accept_clock)
        _say(place, said, message, key, as_principal, prepare)


@app.command()
def acknowledge(
    message: MessageArgument,
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What you say to it.")] = "seen",
    *,
    yes: YesOption = False,
    key: KeyOption = None,
    as_principal: AsOption = None,
    prepare: PrepareOption = None,
    home: HomeOption = None,
    accept_clock: ClockOption = False,
) -> None:
    """Say that you saw a message. A question stays open.

    Example: calyx message acknowledge 0f6cc2b4a1d9
    """
    with opened(home) as place:
        said = _Said("acknowledgement", text, None, yes=yes, accept_clock=accept_clock)
        _say(place, said, message, key, as_principal, prepare)


@app.command(name="list")
def list_(
    home: HomeOption = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only questions that wait for an answer.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="How many to list, the newest.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List what was said, the newest last.

    Example: calyx message list --open
    """
    from executor.escape import escape, shorten
    from executor.views.messages import list_messages

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        found = [each for each in list_messages(state) if not only_open or each.standing == "open"]
        reader = place.open_store()
        rows = [_row(state, reader, message) for message in found[-limit:]]
    if as_json:
        say_json(rows)
    elif rows:
        say_table(
            ("message", "time", "by", "to", "kind", "state", "what"),
            [
                (
                    row["digest"][:12],
                    row["timestamp"],
                    row["by"],
                    row["to"] or "",
                    row["kind"],
                    row["state"] or "",
                    shorten(escape(row["what"]), MAX_WORDS),
                )
                for row in rows
            ],
        )
    else:
        say("No question waits for an answer." if only_open else "Nobody said anything.")


@app.command()
def show(message: MessageArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show a message, and what was said to it.

    Example: calyx message show 0f6cc2b4a1d9
    """
    from executor.views.messages import list_replies

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        found = find_message(state, message)
        reader = place.open_store()
        row, *replies = [_row(state, reader, each) for each in (found, *list_replies(state, found.digest))]
    if as_json:
        say_json({**row, "replies": replies})
        return
    for each in (row, *replies):
        say_theirs(*_lines(each))


@dataclass(frozen=True, slots=True)
class _Said:
    """What a person says. `text`: empty where they are to be asked for it."""

    kind: Literal["question", "answer", "acknowledgement"]
    text: str
    to: str | None
    yes: bool
    accept_clock: bool


def _say(
    home: Home, said: _Said, name: str | None, key: Path | None, as_principal: str | None, prepare: Path | None
) -> None:
    from policies.submitter import Draft

    registrar = home.open_registrar(accept_clock=said.accept_clock)
    state = check_begun(registrar.sync())
    earlier = None if name is None else find_message(state, name)
    to = _find_addressee(state, said.to) if earlier is None else _asker(state, earlier)
    shown = [] if earlier is None else [*_lines(_row(state, home.open_store(), earlier))]
    text = said.text
    if not text:
        say_theirs(*shown)
        text = ask_words(f"Your {said.kind}:")
        # Seen once is enough; what is carried elsewhere says it there.
        shown = [] if prepare is None else shown
    if not text.strip():
        raise UsageError("no_words", "nothing was said", hint="give the words in quotes, behind the others")
    whom = "whoever reads the ledger" if to is None else to
    fields = {"type": said.kind, "to": to, "reply_to": None if earlier is None else earlier.digest, "text": text}
    receipt = sign_and_submit(
        home,
        registrar,
        Draft("message", fields),
        [*shown, f"{said.kind} to {whom}"],
        yes=said.yes,
        key=key,
        as_principal=as_principal,
        prepare=prepare,
    )
    if receipt is not None:
        say(f"{said.kind} {receipt.digest[:12]} to {whom}: entry {receipt.seq}")


def _asker(state: State, earlier: Message) -> str | None:
    # Nobody can be addressed who is no principal any more, and what they asked can be answered all the same.
    known = state.trust is not None and state.trust.find_principal(earlier.note.by) is not None
    return earlier.note.by if known else None


def _find_addressee(state: State, name: str | None) -> str | None:
    if name is None:
        return None
    found = None if state.trust is None else state.trust.find_spelled(name)
    if found is None:
        raise Refused("unknown_principal", f"the trust root has no principal {name}", hint="calyx keys show --all")
    return found.id


def _row(state: State, reader: Reader, message: Message) -> dict[str, Any]:
    from executor.render.statement import read_statement
    from keys.values import format_time

    note = message.note
    statement = read_statement(reader, note.seq, message.digest)
    return {
        "digest": message.digest,
        "seq": note.seq,
        "timestamp": format_time(state.history.time(note.seq)),
        "by": note.by,
        "to": note.to,
        "kind": note.type,
        "reply_to": note.reply_to,
        "state": message.standing,
        "what": statement.predicate["text"],
    }


def _lines(row: dict[str, Any]) -> Iterable[str]:
    from executor.escape import escape_lines

    whom = f" to {row['to']}" if row["to"] else ""
    state = f", {row['state']}" if row["state"] else ""
    yield f"{row['kind']} {row['digest'][:12]} of {row['by']}{whom}, entry {row['seq']}, {row['timestamp']}{state}"
    # All of it: what is answered and shown is not cut short.
    yield from (f"  {line}" for line in escape_lines(row["what"], limit=len(row["what"])))
