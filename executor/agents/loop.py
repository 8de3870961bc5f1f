"""The loop that the agents share: read what is new in the ledger, do what it asks for, wait, and again.

An agent keeps nothing that it could not lose: what is to be done follows from the state alone, so a restart goes on
where the ledger is. What one lease or deployment does wrong is logged and tried again later; it never stops the loop.
A ledger that contradicts itself does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from executor.logbook import Log
from keys.errors import CalyxError
from keys.signer import Signer
from policies.fold.state import State
from policies.submitter import Draft, Receipt

POLL_S: Final = 0.2
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
MANY: Final = 1_024
"""Things that failed and are remembered, whether anyone still tries them or not."""

FATAL: Final = frozenset(
    {"broken_chain", "head_contradicted", "ledger_corrupt", "ledger_replaced", "tip_mismatch", "unlawful_entry"}
)
"""What is wrong with the ledger itself: nobody may act on it, and a person must look."""

Wait: TypeAlias = Callable[[float], bool]
"""Waits up to some seconds; true when the process is to stop."""


class Ledger(Protocol):
    """What an agent needs of a registrar."""

    def sync(self) -> State:
        """Verify and fold what is new. The state is the ledger's own: read it, do not change it."""
        ...

    def submit(self, signer: Signer, draft: Draft) -> Receipt:
        """Say something and have it appended, durable on return. Raises: CalyxError."""
        ...

    def now(self) -> int:
        """Seconds since 1970."""
        ...


class Agent(Protocol):
    """What runs in the loop."""

    def act(self, state: State) -> None:
        """Do what the state asks for now. Raises: CalyxError when nothing can be done at all."""
        ...


@dataclass(slots=True)
class _Later:
    at: float
    delay_s: float


class Tries:
    """Runs work on one thing at a time, so that what one of them does wrong is its own. `monotonic`: seconds that only
    grow.
    """

    def __init__(self, monotonic: Callable[[], float], log: Log) -> None:
        self._monotonic: Final = monotonic
        self._log: Final = log
        self._later: dict[str, _Later] = {}

    def run(self, key: str, name: str, work: Callable[[], None]) -> None:
        """Do `work` unless it failed a moment ago. A failure is logged, and the wait before the next try is doubled.

        Raises: CalyxError with a code in `FATAL`.
        """
        later = self._later.get(key)
        if later is not None and self._monotonic() < later.at:
            return
        try:
            work()
        except CalyxError as error:
            if error.code in FATAL:
                raise
            self._postpone(key, later, f"{name}: {error}")
        except Exception as error:  # noqa: BLE001  # a defect that one hostile lease finds must not stop the others'
            self._postpone(key, later, f"{name}: internal_error: {type(error).__name__}: {error}")
        else:
            self._later.pop(key, None)

    def _postpone(self, key: str, later: _Later | None, line: str) -> None:
        delay_s = FIRST_RETRY_S if later is None else min(2 * later.delay_s, LAST_RETRY_S)
        now = self._monotonic()
        if len(self._later) >= MANY:
            # What nobody tried again when it was time is over.
            self._later = {known: one for known, one in self._later.items() if now < one.at + LAST_RETRY_S}
        self._later[key] = _Later(now + delay_s, delay_s)
        self._log(f"{one_line(line)}; trying again in {delay_s:.0f} s")


def run(agent: Agent, ledger: Ledger, *, wait: Wait, log: Log, poll_s: float = POLL_S) -> None:
    """Let an agent act until `wait` says to stop.

    Raises: CalyxError with a code in `FATAL`.
    """
    delay_s = poll_s
    while True:
        try:
            agent.act(ledger.sync())
            delay_s = poll_s
        except CalyxError as error:
            if error.code in FATAL:
                raise
            delay_s = min(max(2 * delay_s, FIRST_RETRY_S), LAST_RETRY_S)
            log(f"{one_line(str(error))}; trying again in {delay_s:.0f} s")
        if wait(delay_s):
            return


def one_line(text: str, limit: int = 500) -> str:
    """Text that may be hostile as one printable line of at most `limit` characters."""
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
