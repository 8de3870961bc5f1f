"""The signatures of a big batch, checked by other processes while the law judges the statements before them.

What is accepted never depends on those processes: what they did not prove, or what they are gone with, is checked
here. They get public keys, messages and signatures (`keys.ahead`), and begin only for who keeps appending big batches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from keys.ahead import SignaturesAhead
from keys.principals import TrustRoot
from ledger.envelope import Envelope
from ledger.verified import foresee_envelope

WORTH_AHEAD: Final = 64
"""Statements in a batch from which on it is worth asking other processes."""
WORTH_START: Final = 512
"""Statements in such batches after which it is worth starting them."""
WINDOW: Final = 1_024
"""Statements that are foreseen at once."""
FLUSH_AT: Final = 16
"""Statements after which the first of them are sent, so that nobody waits for a batch to be read."""


class BatchAhead:
    """Reads batches ahead, with `helpers` processes that check signatures. Close it. Not shared between threads."""

    def __init__(self, helpers: int) -> None:
        self.ahead: SignaturesAhead | None = None
        self._helpers = 0 if sys.platform == "win32" else helpers
        self._came = 0

    def close(self) -> None:
        """End the processes. Used again, it starts new ones."""
        ahead, self.ahead = self.ahead, None
        if ahead is not None:
            ahead.close()

    def read(self, envelopes: Sequence[Envelope], trust: Callable[[], TrustRoot | None]) -> Iterator[Envelope]:
        """The same envelopes, in order, the signatures of a big batch foreseen.

        `trust`: the root in force after the last one that was given out.
        """
        if self._helpers and len(envelopes) >= WORTH_AHEAD:
            self._start(len(envelopes))
        if self.ahead is None or len(envelopes) < WORTH_AHEAD:
            yield from envelopes
            return
        for start in range(0, len(envelopes), WINDOW):
            window = envelopes[start : start + WINDOW]
            self._foresee(window, trust())
            yield from window

    def _start(self, count: int) -> None:
        self._came += count
        if self.ahead is None and self._came >= WORTH_START:
            self.ahead = SignaturesAhead(self._helpers, required=False)

    def _foresee(self, envelopes: Sequence[Envelope], trust: TrustRoot | None) -> None:
        if self.ahead is None or trust is None:
            return
        for number, envelope in enumerate(envelopes, 1):
            holder = trust.find_key(envelope.keyid)
            if holder is not None:
                foresee_envelope(envelope, holder.enrolled, self.ahead)
            if number % FLUSH_AT == 0:
                self.ahead.flush()
        self.ahead.flush()
