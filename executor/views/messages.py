"""What principals said to each other, and which questions are open."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from keys.values import fold_id
from policies.fold.state import MessageNote, State

Standing: TypeAlias = Literal["open", "answered"]


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `standing`: of a question, whether whom it was put to answered it, or anyone where it was put to
    nobody by name; None of what is no question.
    """

    digest: str
    note: MessageNote
    standing: Standing | None


def list_messages(state: State) -> Iterator[Message]:
    """Every message, in the order of the entries. What was said is in its entry."""
    answers = {(note.reply_to, by) for note in state.messages.values() for by in _answers_for(note)}
    for digest, note in state.messages.items():
        whom = None if note.to is None else fold_id(note.to)
        answered = (digest, whom) in answers
        yield Message(digest, note, ("answered" if answered else "open") if note.type == "question" else None)


def list_replies(state: State, digest: str) -> list[Message]:
    """What was said to a message, and to that in turn, in the order of the entries."""
    thread = {digest}
    replies = []
    # A message replies to an earlier one alone.
    for message in list_messages(state):
        if message.note.reply_to in thread:
            thread.add(message.digest)
            replies.append(message)
    return replies


def _answers_for(note: MessageNote) -> tuple[str | None, ...]:
    return (fold_id(note.by), None) if note.type == "answer" else ()
