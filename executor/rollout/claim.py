"""Claiming leases: whenever the two-key rule holds and a preflight finds everything ready, and never otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Final

from executor.homes.reserve import Reserve
from executor.hosts.host import Hosts
from executor.logbook import Log, fact_line, warning_line
from executor.rollout.preflight import NotReady, check_ready
from executor.rollout.speaker import Speaker
from executor.trees.reverse import WayBack
from executor.trees.tree import shown
from executor.trees.workplace import NewFolder, temporary_folder
from keys.errors import FormatError, LawRefused, Unavailable
from keys.values import parse_time
from ledger.head import Head
from ledger.objects import ObjectRef, ObjectStore
from ledger.store import DISK_FULL
from policies.fold.state import LeaseState, State
from policies.law.two_key import VerifiedLease, check_two_key
from policies.names import list_json

PREFLIGHTS: Final = 4
"""Leases that are looked at at once."""
MAX_TOLD: Final = 32
"""Reasons against one lease that are put into the ledger: a host that flaps must not fill it."""
RETRY_S: Final = 10
"""How long a lease that was not ready is left alone."""


class Claims:
    """The leases that wait. `pool`: does the preflights, so that a slow host keeps the loop waiting for nothing.
    `reserve`, `new_folder`: as `executor.rollout.run.Executor` has them.
    """

    def __init__(
        self,
        speaker: Speaker,
        objects: ObjectStore,
        hosts: Hosts,
        pool: Executor,
        log: Log,
        reserve: Reserve | None = None,
        new_folder: NewFolder = temporary_folder,
    ) -> None:
        self._reserve = reserve
        self._new_folder = new_folder
        self._speaker = speaker
        self._objects = objects
        self._hosts = hosts
        self._pool = pool
        self._log = log
        self._looked: tuple[Head, int] | None = None
        self._running: dict[str, Future[WayBack]] = {}
        self._not_ready: dict[str, int] = {}
        self._open: dict[str, None] = {}
        self._queued: dict[str, str] = {}
        self._lapsed = False

    @property
    def open(self) -> int:
        """How many leases may still be claimed, as of the last look."""
        return len(self._open)

    @property
    def idle(self) -> bool:
        """Whether no preflight is under way."""
        return not self._running

    @property
    def refused(self) -> bool:
        """Whether a lease that carries both keys could not be executed."""
        return self._lapsed or bool(self._not_ready)

    def consider(self, state: State, head: Head, now: int) -> bool:
        """Look at every lease that waits; whether anything was appended. `now`: seconds since 1970.

        Raises: LawRefused (`fenced`); CalyxError of the ledger.
        """
        # Whether a lease can be claimed follows from the entries and the second; without news there is nothing to ask.
        if self._looked == (head, now) and not self._running:
            return False
        self._looked = (head, now)
        acted = False
        for lease in self._still_open(state):
            acted |= self._consider(state, lease, now)
        return acted

    def _still_open(self, state: State) -> list[LeaseState]:
        """Leases that can be claimed now or later."""
        # By the newest entry's time and not by the clock, which may be wrong: no later entry is older than that.
        last = state.history.time(state.size - 1) if state.size else 0
        known = (state.leases[digest] for digest, until in state.open_leases.items() if last <= until)
        # Those of another policy or fleet are void for good.
        terms = state.policy_digest, state.fleet_digest
        self._open = {each.digest: None for each in known if (each.lease.policy, each.lease.fleet) == terms}
        for digest in (self._running.keys() | self._not_ready.keys() | self._queued.keys()) - self._open.keys():
            self._queued.pop(digest, None)
            self._running.pop(digest, None)
            if self._not_ready.pop(digest, None) is not None and state.leases[digest].claim_seq is None:
                self._lapsed = True
        return [state.leases[digest] for digest in self._open]

    def close(self) -> None:
        """Wait for preflights under way."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _consider(self, state: State, lease: LeaseState, now: int) -> bool:
        if now < self._not_ready.get(lease.digest, 0):
            return False
        verified = self._verified(state, lease, now)
        if verified is None:
            # What was looked at for a lease that can be claimed no more is of no use.
            self._running.pop(lease.digest, None)
            return False
        if lease.digest not in self._running:
            fleet = state.fleets[lease.lease.fleet]
            fence, places = self._speaker.fence, (self._reserve, self._new_folder)
            self._running[lease.digest] = self._pool.submit(
                check_ready, lease, fleet, self._hosts, self._objects, fence, *places
            )
        future = self._running[lease.digest]
        if not future.done():
            return False
        del self._running[lease.digest]
        try:
            back = future.result()
        except NotReady as problem:
            return self._refuse(lease, problem, now)
        except Exception as error:  # noqa: BLE001  # a defect that one lease finds must not stop the others
            defect = NotReady("internal_error", shown(f"{type(error).__name__}: {error}"), None)
            return self._refuse(lease, defect, now)
        return self._claim(verified, back, now)

    def _verified(self, state: State, lease: LeaseState, now: int) -> VerifiedLease | None:
        """The lease, if it can be claimed now. The cheap reasons against it come first: most leases are old."""
        if lease.claim_seq is not None or lease.denied is not None or now > parse_time(lease.lease.execute_by):
            return None
        try:
            return check_two_key(state, lease.digest, now)
        except LawRefused as refusal:
            # It waits for nobody's key: whoever reads the log sees behind what it is queued, once.
            if refusal.code == "target_busy" and self._queued.get(lease.digest) != refusal.message:
                self._queued[lease.digest] = refusal.message
                text = f"{lease.lease.id} waits: {refusal.message}"
                self._log(fact_line(text, lease_id=lease.lease.id, event="QUEUED", code=refusal.code))
            return None

    def _refuse(self, lease: LeaseState, problem: NotReady, now: int) -> bool:
        self._not_ready[lease.digest] = now + RETRY_S
        # The newest one is what people see, so it is said again when it is another one's turn.
        told = lease.preflight
        if len(told) >= MAX_TOLD or (told and problem.repeats(*told[-1][1:])):
            return False
        self._log(f"{lease.lease.id} not ready: {problem.code}: {problem.message}")
        detail = {
            "type": "PREFLIGHT_FAILED",
            "code": problem.code,
            "instance": problem.instance,
            "text": problem.message[:500],
        }
        try:
            return self._speaker.say((lease.lease.id, lease.digest), detail) is not None
        except Unavailable as error:
            if error.code != DISK_FULL:
                raise
            return False

    def _claim(self, verified: VerifiedLease, back: WayBack, now: int) -> bool:
        lease = verified.lease
        if back.why:
            self._log(f"{lease.lease.id} no reverse patch is kept: {back.why}")
        try:
            fields = claim_fields(verified, self._speaker.fence.epoch, self._objects, back.ref)
            receipt = self._speaker.claim((lease.lease.id, lease.digest), fields)
        except FormatError as error:
            # Its lists do not fit into one record. That is this lease's fault, and no reason to leave the others.
            return self._refuse(lease, NotReady(error.code, f"the claim: {error.message}", None), now)
        except Unavailable as error:
            if error.code != DISK_FULL:
                raise
            text = f"{lease.lease.id} not claimed: {error}"
            self._log(warning_line(text, lease_id=lease.lease.id, code=error.code))
            self._not_ready[lease.digest] = now + RETRY_S
            return False
        if receipt is None:
            return False
        self._not_ready.pop(lease.digest, None)
        first, last = verified.counted
        text = (
            f"{lease.lease.id} VERIFIED_2KEY: {first.signer.principal} and {last.signer.principal} "
            f"(claimed in entry {receipt.seq})"
        )
        self._log(fact_line(text, lease_id=lease.lease.id, event="VERIFIED_2KEY", seq=receipt.seq))
        for line in _merged(lease.lease.tiers, verified.cohorts):
            self._log(f"{lease.lease.id} {line}")
        return True


def _merged(tiers: Sequence[int], cohorts: Mapping[int, object]) -> Iterator[str]:
    """Words for tiers that reach no other instances than a later one: on a small fleet they are watched as one."""
    for tier in tiers:
        if tier not in cohorts:
            wider = min(later for later in cohorts if later > tier)
            yield f"the tier {tier} % reaches as far as {wider} %: they are one"


def claim_fields(
    verified: VerifiedLease, epoch: int, objects: ObjectStore, reverse: ObjectRef | None = None
) -> dict[str, Any]:
    """What a claim says of a verified lease, without the common fields. `reverse`: the evidence of the way back."""
    trees: dict[str, list[str]] = {}
    for name, tree in sorted(verified.lease.before.items()):
        trees.setdefault(tree, []).append(name)
    cohorts = verified.cohorts
    return {
        "type": "VERIFIED_2KEY",
        "epoch": epoch,
        "counted": [vote.seq for vote in verified.counted],
        "cohorts": [
            {"tier": tier, "instances": list_json(names, objects, len(cohorts))} for tier, names in cohorts.items()
        ],
        "seen": [{"tree": tree, "instances": list_json(names, objects, len(trees))} for tree, names in trees.items()],
        "reverse": None if reverse is None else reverse.to_json(),
    }
