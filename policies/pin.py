"""Where a reader remembers a ledger's head, under each name by which the ledger is found."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.remembered import HeadContradicted, Remembered


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a reader remembers a ledger's head. `home`: what names the ledger's place, such as its real path. `named`:
    the path that the reader was given, where that is another one: a link that was turned to another copy of the ledger
    changes the real path, and not this.
    """

    memory: HeadMemory
    home: str
    named: str | None = None

    def load(self) -> Remembered | None:
        """The remembered head, if there is one: the higher, where the two names remember different ones.

        Raises: HeadContradicted when they remember two ledgers.
        """
        found = sorted(filter(None, map(self.memory.load, self._names())), key=lambda one: one.size)
        if found and found[0].ledger != found[-1].ledger:
            raise HeadContradicted(found[0], found[-1].ledger, found[-1].head, f"{self.named} leads to another ledger")
        return found[-1] if found else None

    def store(self, ledger: str, head: Head) -> None:
        """Remember a head. Raises: HeadContradicted when it is of another ledger."""
        for name in self._names():
            self.memory.remember(name, ledger, head)

    def note(self, ledger: str, head: Head) -> None:
        """Remember a head of which the ledger's own disk was waited for just now: `ledger.memory.HeadMemory.note`.
        Raises: as `store`.
        """
        for name in self._names():
            self.memory.note(name, ledger, head)

    def replace(self, ledger: str, head: Head) -> None:
        """Remember this instead of what was remembered, by a person's decision. Raises: Unavailable."""
        for name in self._names():
            self.memory.replace(name, ledger, head)

    def _names(self) -> tuple[str, ...]:
        return (self.home,) if self.named in (None, self.home) else (self.home, str(self.named))
