"""The fold: every state in this project is one function over the entries, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from ledger.chain import Entry

S = TypeVar("S")


class Fold(Generic[S]):
    """A state that is computed from entries alone, so it can be dropped and computed again.

    `step(state, entry) -> state` is pure and raises when the entry has no place after that state.
    """

    def __init__(self, start: S, step: Callable[[S, Entry], S]) -> None:
        self._step = step
        self.state = start

    def run(self, entries: Iterable[Entry]) -> S:
        """Take entries in and give the state after them. When a step raises, the state is that before its entry."""
        for entry in entries:
            self.state = self._step(self.state, entry)
        return self.state
