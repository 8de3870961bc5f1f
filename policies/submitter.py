"""A submitter: whoever drafts what a principal says, has it signed, and has it appended.

The registrar is one, on the ledger's own machine (`policies.registrar`); another sends what was signed to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from keys.errors import CalyxError, Unavailable
from keys.signer import Signer
from keys.values import ZERO_HASH, format_time
from ledger.envelope import Envelope
from ledger.head import EMPTY_HEAD, Head
from ledger.statement import Statement, make_statement
from ledger.store import Reader
from ledger.verified import sign_statement
from policies.fold.snapshots import Snapshots
from policies.fold.state import State
from policies.law.step import foresee
from policies.names import Objects
from policies.pin import Pin
from policies.replay import Replay

MAX_TRIES: Final = 20

Clock = Callable[[], int]
"""Seconds since 1970, UTC."""


class Random(Protocol):
    """Random bytes fit for nonces, such as os.urandom."""

    def __call__(self, size: int, /) -> bytes:
        """Give `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Draft:
    """What someone wants to say. `fields`: the predicate without `by`, `ledger`, `head`, `nonce` and `made_at`.
    `subject`: name and digest of the statement it is about, for the kinds that are about one.
    """

    kind: str
    fields: dict[str, Any]
    subject: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry that is durable. `digest`: the statement's. `time`: seconds since 1970."""

    seq: int
    digest: str
    leaf: str
    time: int


class Submitter(ABC):
    """Whoever drafts statements on a head that it verified, has them signed, and has them appended: a registrar on the
    ledger's own machine, or one that sends them there. Not shared between threads.
    """

    def __init__(
        self,
        reader: Reader,
        objects: Objects,
        pin: Pin | None,
        *,
        clock: Clock,
        random: Random,
        snapshots: Snapshots | None = None,
        jobs: int = 1,
    ) -> None:
        self._clock = clock
        self._random = random
        self._objects = objects
        self._replay = Replay(reader, objects, pin, snapshots=snapshots, jobs=jobs)

    @property
    def state(self) -> State:
        """The state as of the last `sync` or `submit`. Read it, do not change it."""
        return self._replay.state

    @property
    def head(self) -> Head:
        """The head as of the last `sync` or `submit`."""
        return self._replay.head

    def now(self) -> int:
        """The clock."""
        return self._clock()

    def sync(self) -> State:
        """Verify and fold what is new. Raises: as `policies.replay.Replay.sync`."""
        return self._replay.sync()

    @property
    def refused(self) -> str | None:
        """As `policies.replay.Replay.refused`."""
        return self._replay.refused

    def keep_new(self, least: int, now: int) -> bool:
        """As `policies.replay.Replay.keep_new`."""
        return self._replay.keep_new(least, now)

    def draft_statement(self, principal: str, draft: Draft, *, machine: bool = True) -> Statement:
        """The statement of a draft on the head read last, for signing here or elsewhere.

        Raises: FormatError.
        """
        now = self._clock()
        head = self._replay.head
        if machine and head != EMPTY_HEAD:
            now = max(now, self._replay.state.history.time(head.size - 1))
        predicate = {
            **draft.fields,
            "by": principal,
            "head": {"hash": head.hash, "size": head.size},
            "ledger": self._replay.state.ledger if head != EMPTY_HEAD else ZERO_HASH,
            "made_at": format_time(now),
            "nonce": self._random(16).hex(),
        }
        return make_statement(draft.kind, predicate, draft.subject)

    def foresee(self, statement: Statement, keyid: str) -> None:
        """Spare a person the signing of what the law would refuse now, with that key. Raises: as
        `policies.law.step.foresee`.
        """
        now, last = self._clock(), self._replay.seconds
        foresee(self.state, statement, keyid, now if last is None else max(now, last), self._objects)

    def submit(self, signer: Signer, draft: Draft) -> Receipt:
        """Say something as `signer` and have it appended, durable on return.

        A `term` or `claim` names the whole ledger, so it is said again when another entry came first.

        Raises: CalyxError of the law, the signer or the store; then nothing was appended.
        """
        return self.submit_all(signer, [draft])[0]

    def submit_all(self, signer: Signer, drafts: Sequence[Draft]) -> list[Receipt]:
        """Say several things, appended together or not at all. Raises: as `submit`."""
        self.sync()
        principal = None if self.state.trust is None else self.state.trust.find_principal(signer.principal)
        machine = principal is not None and principal.kind != "human"
        for _ in range(MAX_TRIES):
            statements = [self.draft_statement(signer.principal, draft, machine=machine) for draft in drafts]
            try:
                return self.append([sign_statement(statement, signer) for statement in statements])
            except CalyxError as error:
                if error.code != "head_moved" or not machine:
                    raise
                self.sync()
        raise Unavailable("ledger_busy", "others kept appending first", hint="try again")

    @abstractmethod
    def append(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Have signed statements appended in one commit, after verification and law, durable on return.

        A statement that is in the ledger already is not appended again; its entry is returned.

        Raises: as `submit`.
        """
