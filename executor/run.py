"""The executor (CP20): reads the ledger, claims leases that carry both keys, and carries deployments to their end.

A round reads what is new, asks `decide` for each deployment, and does it: intent before effect, result after. The
state is the ledger's and the hosts'; this process keeps nothing that it could not lose. Killed anywhere, the next one
looks at the ledger and the hosts and goes on:

    before TIER_INTENT        nothing was touched
    after it, before a flip   the release is staged or not; it is staged again
    after a flip              the tree is the one after; reload, probe and result follow
    during a rollback         as forward, to the other side; rollbacks go first
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from executor.claim import claim_fields
from executor.decide import Apply, Failure, Finished, Observations, Restore, Say, decide
from executor.effects import Step, apply_instance, restore_instance
from executor.host import Fence
from executor.preflight import Hosts, NotReady, check_ready, instances_of
from executor.tree import shown
from executor.work import Pools, Result, Work
from keys.errors import Exit, FormatError, LawRefused, Unavailable
from keys.signer import Signer
from keys.values import parse_time
from ledger.head import Head
from ledger.objects import ObjectStore
from policies.deployment import Deployment, Phase
from policies.names import list_json
from policies.registrar import Draft, Receipt, Registrar
from policies.state import LeaseState, State
from policies.two_key import VerifiedLease, check_two_key

POLL_S: Final = 0.1
RETRY_PREFLIGHT_S: Final = 10
RETRY_LEDGER_S: Final = 1
TRANSIENT: Final = frozenset({"clock_suspect", "ledger_busy"})
"""Refusals of the ledger that pass by themselves. After a failed write none does: the disk must be looked at."""
MAX_REFUSALS: Final = 100
RESTORE_TRIES: Final = 3
PREFLIGHTS: Final = 4
"""Leases that are looked at at once, before their claim."""

Wait = Callable[[float], bool]
"""Waits up to some seconds; true when the process is to stop."""
Log = Callable[[str], None]


class Watchman(Protocol):
    """Whoever sees to it that a monitor (CP19) runs, in a process of its own."""

    def ensure(self) -> None:
        """Start one if none runs."""
        ...

    def stop(self) -> None:
        """End the one that was started here."""
        ...


@dataclass
class _Memory:
    """What this process saw and may lose: failures, and preflights not to repeat at once."""

    failed: dict[str, dict[str, Failure]] = field(default_factory=dict)
    unrestored: dict[str, dict[str, Failure]] = field(default_factory=dict)
    tries: dict[tuple[str, str], int] = field(default_factory=dict)
    not_ready: dict[str, tuple[str, int]] = field(default_factory=dict)
    considered: tuple[Head, int] | None = None
    refusals: int = 0
    handled: list[str] = field(default_factory=list)


class Executor:
    """One executor under one term. Its registrar belongs to the thread that runs it; hosts are used by workers."""

    def __init__(
        self,
        registrar: Registrar,
        signer: Signer,
        objects: ObjectStore,
        hosts: Hosts,
        watchman: Watchman,
        *,
        wait: Wait,
        log: Log,
        pools: Pools = ThreadPoolExecutor,
    ) -> None:
        self._registrar = registrar
        self._signer = signer
        self._objects = objects
        self._hosts = hosts
        self._watchman = watchman
        self._wait = wait
        self._log = log
        self._memory = _Memory()
        self._work = Work(pools)
        self._preflight_pool = pools(PREFLIGHTS)
        self._preflights: dict[str, Future[None]] = {}
        self._fence: Fence | None = None

    def run(self, *, until_idle: bool) -> Exit:
        """Take over, then act until told to stop, or until nothing is left to do.

        Gives ROLLBACK_FAILED, ROLLED_BACK, REFUSED or DONE, the gravest of what this run ended; so far when stopped.

        Raises: CalyxError when the ledger cannot be read or written, or another executor took over (`fenced`); what
        passes by itself (`TRANSIENT`) only where `until_idle`.
        """
        try:
            self._take_over()
            while not self._wait(0):
                try:
                    acted = self._round()
                except Unavailable as error:
                    # Nobody watches a run without an end: what passes by itself must not leave a rollout alone.
                    if until_idle or error.code not in TRANSIENT:
                        raise
                    self._log(f"{error}; trying again in {RETRY_LEDGER_S} s")
                    if self._wait(RETRY_LEDGER_S):
                        break
                    continue
                if acted:
                    continue
                if until_idle and self._idle():
                    break
                if self._wait(POLL_S):
                    break
            return self._outcome()
        finally:
            self._work.close()
            self._preflight_pool.shutdown(wait=True, cancel_futures=True)
            self._watchman.stop()

    def _take_over(self) -> None:
        state = self._registrar.sync()
        epoch = 1 if state.term is None else state.term.epoch + 1
        receipt = self._registrar.submit(self._signer, Draft("term", {"epoch": epoch, "reason": "executor started"}))
        self._fence = Fence(ledger=state.ledger, epoch=epoch, leaf=receipt.leaf)
        self._log(f"epoch {epoch}, entry {receipt.seq}")

    def _round(self) -> bool:
        """Do what can be done now; whether anything was."""
        state = self._registrar.sync()
        acted = False
        for digest in _in_order(state):
            acted |= self._advance(digest)
        now = self._registrar.now()
        # Whether a lease can be claimed follows from the entries and the second; without news there is nothing to ask.
        news = (self._registrar.head, now)
        if news != self._memory.considered or self._preflights:
            for lease in list(self._registrar.state.leases.values()):
                acted |= self._consider(lease, now)
            self._memory.considered = news
        return acted

    def _advance(self, digest: str) -> bool:
        state = self._registrar.state
        deployment = state.deployments[digest]
        if deployment.live and digest not in self._memory.handled:
            self._memory.handled.append(digest)
        if deployment.live and deployment.phase not in {Phase.HALTED, Phase.ROLLING_BACK}:
            self._watchman.ensure()
        results = self._work.take(digest)
        for result in results:
            self._record(deployment, result)
        state = self._registrar.state
        seen = Observations(self._memory.failed.get(digest, {}), self._memory.unrestored.get(digest, {}))
        action = decide(state, deployment, seen, self._registrar.now())
        if isinstance(action, Say):
            return self._say(deployment, action.detail)
        if isinstance(action, Apply | Restore):
            return self._begin(deployment, action) or bool(results)
        if isinstance(action, Finished):
            self._memory.failed.pop(digest, None)
            self._memory.unrestored.pop(digest, None)
        return bool(results)

    def _say(self, deployment: Deployment, detail: dict[str, Any]) -> bool:
        if detail["type"] == "ROLLBACK_STARTED":
            self._memory.unrestored.pop(deployment.lease_digest, None)
            self._memory.tries.clear()
        if "instances" in detail:
            detail = {**detail, "instances": list_json(detail["instances"], self._objects)}
        receipt = self._submit((deployment.lease.id, deployment.lease_digest), detail)
        return receipt is not None

    def _submit(self, subject: tuple[str, str], detail: dict[str, Any]) -> Receipt | None:
        """Append an event of ours; None when the state moved on meanwhile and the law refused it."""
        epoch = None if self._fence is None else self._fence.epoch
        try:
            receipt = self._registrar.submit(self._signer, Draft("event", {"epoch": epoch, "detail": detail}, subject))
        except LawRefused as refusal:
            self._memory.refusals += 1
            if refusal.code == "fenced" or self._memory.refusals > MAX_REFUSALS:
                raise
            self._log(f"{subject[0]} {detail['type']} refused: {refusal}")
            self._registrar.sync()
            return None
        self._memory.refusals = 0
        self._log(f"{subject[0]} {_spell(detail)} (entry {receipt.seq})")
        return receipt

    def _begin(self, deployment: Deployment, action: Apply | Restore) -> bool:
        """Let workers do what was decided; whether anything began. One thing at a time for each deployment."""
        if self._work.busy(deployment.lease_digest):
            return False
        fleet = self._registrar.state.fleets[deployment.lease.fleet]
        known = instances_of(fleet, deployment.lease)
        names, do = action.instances, self._restore_one
        if isinstance(action, Apply):
            names, do = names[: fleet.targets[deployment.lease.target].max_unavailable], self._apply_one
        self._work.begin(
            deployment.lease_digest,
            {
                name: partial(
                    do, Step(known[name], deployment.before[name], deployment.after[name], deployment.lease.artifact)
                )
                for name in names
            },
            back=isinstance(action, Restore),
        )
        return True

    def _record(self, deployment: Deployment, result: Result) -> None:
        """Say a result in the ledger, or remember why there is none."""
        digest, name = deployment.lease_digest, result.name
        if result.failure is None:
            self._submit((deployment.lease.id, digest), _result_detail(deployment, result))
            return
        what = "not restored" if result.back else "failed"
        self._log(f"{deployment.lease.id} instance {name} {what}: {result.failure.code}: {result.failure.text}")
        if not result.back:
            self._memory.failed.setdefault(digest, {})[name] = result.failure
            return
        tries = self._memory.tries.get((digest, name), 0) + 1
        self._memory.tries[digest, name] = tries
        if tries >= RESTORE_TRIES:
            self._memory.unrestored.setdefault(digest, {})[name] = result.failure

    def _apply_one(self, step: Step) -> bool:
        apply_instance(self._hosts(step.instance), step, self._held_fence())
        return False

    def _restore_one(self, step: Step) -> bool:
        return restore_instance(self._hosts(step.instance), step, self._held_fence())

    def _held_fence(self) -> Fence:
        if self._fence is None:
            raise Unavailable("no_term", "the executor has not taken over yet")
        return self._fence

    def _consider(self, lease: LeaseState, now: int) -> bool:
        """Claim a lease if the two-key rule holds and its preflight passes; whether anything was appended."""
        if lease.claim_seq is not None or lease.denied is not None or now > parse_time(lease.lease.execute_by):
            return False
        tried = self._memory.not_ready.get(lease.digest)
        if tried is not None and now < tried[1]:
            return False
        state = self._registrar.state
        try:
            verified = check_two_key(state, lease.digest, now)
        except LawRefused:
            return False
        if lease.digest not in self._preflights:
            self._preflights[lease.digest] = self._preflight_pool.submit(
                check_ready, lease, state.fleets[lease.lease.fleet], self._hosts, self._objects
            )
        future = self._preflights[lease.digest]
        if not future.done():
            return False
        del self._preflights[lease.digest]
        try:
            future.result()
        except NotReady as problem:
            return self._not_ready(lease, problem, now)
        except Exception as error:  # noqa: BLE001  # a defect that one lease finds must not stop the others
            defect = NotReady("internal_error", shown(f"{type(error).__name__}: {error}"), None)
            return self._not_ready(lease, defect, now)
        return self._claim(verified, now)

    def _not_ready(self, lease: LeaseState, problem: NotReady, now: int) -> bool:
        self._memory.not_ready[lease.digest] = (problem.code, now + RETRY_PREFLIGHT_S)
        said = lease.preflight[-1][1] if lease.preflight else None
        if said == problem.code:
            return False
        detail = {
            "type": "PREFLIGHT_FAILED",
            "code": problem.code,
            "instance": problem.instance,
            "text": problem.message[:500],
        }
        return self._submit((lease.lease.id, lease.digest), detail) is not None

    def _claim(self, verified: VerifiedLease, now: int) -> bool:
        lease = verified.lease
        try:
            fields = claim_fields(verified, self._held_fence().epoch, self._objects)
            receipt = self._registrar.submit(self._signer, Draft("claim", fields, (lease.lease.id, lease.digest)))
        except LawRefused as refusal:
            if refusal.code == "fenced":
                raise
            self._log(f"{lease.lease.id} not claimed: {refusal}")
            self._registrar.sync()
            return False
        except FormatError as error:
            # Its lists do not fit into one record. That is this lease's fault, and no reason to leave the others.
            return self._not_ready(lease, NotReady(error.code, f"the claim: {error.message}", None), now)
        self._memory.not_ready.pop(lease.digest, None)
        first, last = verified.counted
        self._log(
            f"{lease.lease.id} VERIFIED_2KEY: {first.signer.principal} and {last.signer.principal} "
            f"(claimed in entry {receipt.seq})"
        )
        return True

    def _idle(self) -> bool:
        """Whether nothing is under way. Leases that wait for keys or time are not ours to wait for."""
        state, now = self._registrar.state, self._registrar.now()
        return (
            self._work.idle
            and not self._preflights
            and all(
                isinstance(decide(state, state.deployments[digest], Observations(), now), Finished)
                for digest in _in_order(state)
            )
        )

    def _outcome(self) -> Exit:
        phases = {self._registrar.state.deployments[digest].phase for digest in self._memory.handled}
        if Phase.ROLLBACK_FAILED in phases:
            return Exit.ROLLBACK_FAILED
        if Phase.ROLLED_BACK in phases:
            return Exit.ROLLED_BACK
        if Phase.ABORTED in phases or self._memory.not_ready:
            return Exit.REFUSED
        return Exit.DONE


def _result_detail(deployment: Deployment, result: Result) -> dict[str, Any]:
    name = result.name
    if result.back:
        tree = deployment.before[name]
        return {"type": "INSTANCE_RESTORED", "instance": name, "tree": tree, "rebuilt": result.rebuilt}
    tier = deployment.tier_of[name]
    return {"type": "INSTANCE_APPLIED", "tier": tier, "instance": name, "tree": deployment.after[name]}


def _in_order(state: State) -> list[str]:
    """Deployments that may need something, rollbacks first: they are never kept waiting."""
    ordered = (digest for digests in state.rollback_orders.values() for digest in digests)
    backwards = {Phase.HALTED, Phase.ROLLING_BACK}
    return sorted(
        {*state.live.values(), *ordered}, key=lambda digest: (state.deployments[digest].phase not in backwards, digest)
    )


def _spell(detail: dict[str, Any]) -> str:
    parts = [str(detail["type"])]
    if "tier" in detail:
        parts.append(f"{detail['tier']} %")
    parts.extend(str(detail[name]) for name in ("instance", "cause", "code", "text") if detail.get(name))
    return " ".join(parts)
