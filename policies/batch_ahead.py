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
from ledger.verified import CheckedAhead, VerifiedSignature

WORTH_AHEAD: Final = 64
"""Statements in a batch from which on it is worth asking other processes."""
WORTH_START: Final = 512
"""Statements in such batches after which it is worth starting them."""
WINDOW: Final = 1_024
"""Statements that are sent before the first of them is judged."""
PART: Final = 16
"""Statements that are sent together: the other processes begin before all are read."""


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

    def read(
        self, envelopes: Sequence[Envelope], trust: Callable[[], TrustRoot | None]
    ) -> Iterator[tuple[Envelope, VerifiedSignature | None]]:
        """The same envelopes, in order, each with its signature where that was proved ahead, in a big batch.

        `trust`: the root in force after the last one that was given out.
        """
        if self._helpers and len(envelopes) >= WORTH_AHEAD:
            self._start(len(envelopes))
        big = len(envelopes) >= WORTH_AHEAD
        for start in range(0, len(envelopes), WINDOW):
            window, root = envelopes[start : start + WINDOW], trust()
            if self.ahead is None or root is None or not big:
                for envelope in window:
                    yield envelope, None
                continue
            parts = [window[at : at + PART] for at in range(0, len(window), PART)]
            checked = [CheckedAhead(part, root, self.ahead) for part in parts]
            for part, each in zip(parts, checked, strict=True):
                yield from zip(part, each.verified(), strict=True)

    def _start(self, count: int) -> None:
        self._came += count
        if self.ahead is None and self._came >= WORTH_START:
            self.ahead = SignaturesAhead(self._helpers, required=False)
