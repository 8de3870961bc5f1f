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

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol

from executor.homes.reserve import Reserve
from executor.hosts.host import Hosts
from executor.logbook import Log, warning_line
from executor.rollout.bookkeeping import Memory, in_order, result_detail, step_of
from executor.rollout.claim import PREFLIGHTS, Claims
from executor.rollout.decide import Apply, Finished, Observations, Restore, Say, decide
from executor.rollout.effects import Outcome, Step, apply_instance, restore_instance
from executor.rollout.figures import Figures
from executor.rollout.patience import RETRY_S, Patience, passes
from executor.rollout.speaker import Speaker
from executor.rollout.standing import take_standing
from executor.rollout.upkeep import Upkeep
from executor.rollout.work import Pools, Result, Work
from executor.trees.workplace import NewFolder, temporary_folder
from keys.errors import Exit, Unavailable
from keys.signer import Signer
from ledger.head import EMPTY_HEAD
from ledger.objects import ObjectStore
from ledger.store import DISK_FULL
from policies.fold.deployment import MOVES, Deployment, Phase
from policies.fold.state import State
from policies.law.safety import EVENTS
from policies.names import list_json
from policies.submitter import Submitter

POLL_S: Final = 0.1
RESTORE_TRIES: Final = 3
GAP_S: Final = 10
"""Seconds between two rounds after which this process was frozen, or its clock jumped: it did not listen meanwhile."""

Wait = Callable[[float], bool]
"""Waits up to some seconds; true when the process is to stop."""


class Watchman(Protocol):
    """Whoever sees to it that a monitor (CP19) runs, in a process of its own."""

    def ensure(self) -> None:
        """Start one if none runs."""
        ...

    def stop(self) -> None:
        """End the one that was started here."""
        ...


class Executor:
    """One executor under one term. Its registrar belongs to the thread that runs it; hosts are used by workers.

    `earlier`, `figures`: as `executor.rollout.speaker.Speaker` has them. `reserve`: without it no lease is claimed;
    None where the ledger's disk is not this machine's. `new_folder`: makes where a preflight works out the patch that
    leads back.
    """

    def __init__(
        self,
        registrar: Submitter,
        signer: Signer,
        objects: ObjectStore,
        hosts: Hosts,
        watchman: Watchman,
        *,
        wait: Wait,
        log: Log,
        pools: Pools = ThreadPoolExecutor,
        earlier: Sequence[str] = (),
        reserve: Reserve | None = None,
        figures: Figures | None = None,
        new_folder: NewFolder = temporary_folder,
    ) -> None:
        self._registrar = registrar
        self._objects = objects
        self._hosts = hosts
        self._watchman = watchman
        self._wait = wait
        self._log = log
        self._memory = Memory()
        self._until_idle = True
        self._work = Work(pools)
        self._figures = figures or Figures(time.monotonic)
        self._speaker = Speaker(registrar, signer, log, earlier, self._figures)
        self._patience = Patience(log, reserve)
        self._upkeep = Upkeep(hosts, pools(1), log, reserve)
        self._claims = Claims(self._speaker, objects, hosts, pools(PREFLIGHTS), log, reserve, new_folder)

    def run(self, *, until_idle: bool) -> Exit:
        """Take over, then act until told to stop, or until nothing is left to do.

        Gives ROLLBACK_FAILED, ROLLED_BACK, REFUSED or DONE: with `until_idle` the gravest of what this run ended, so
        far when stopped; without it DONE, for it did what it was told.

        Told to stop, it lets effects under way come to their end, says their results, and leaves the rest to the next.

        Raises: CalyxError when the ledger cannot be read or written, or another executor took over (`fenced`); what
        passes by itself (`executor.rollout.patience`) only where `until_idle`, and when it takes over.
        """
        self._until_idle = until_idle
        try:
            self._take_over()
            self._loop(until_idle=until_idle)
            self._finish()
            return self._outcome() if until_idle else Exit.DONE
        finally:
            self._work.close()
            self._claims.close()
            self._upkeep.close()
            self._watchman.stop()

    def _loop(self, *, until_idle: bool) -> None:
        while not self._wait(0):
            try:
                acted = self._round()
            except Unavailable as error:
                self._figures.count_error(error.code)
                # Nobody watches a run without an end: what passes by itself must not leave a rollout alone.
                if until_idle or not passes(error):
                    raise
                # In steps: who waits for this one's end must see that it lives.
                if any(self._wait(RETRY_S) for _ in range(self._patience.bear(error, self._memory))):
                    return
                continue
            self._patience.end()
            if acted:
                continue
            self._upkeep.consider(self._state(), self._speaker.fence, self._registrar.now())
            if (until_idle and self._idle()) or self._wait(POLL_S):
                return

    def _finish(self) -> None:
        """End between two effects, with nothing unsaid that was done."""
        while not self._work.come_to_rest(POLL_S):
            # Who waits for this one's end must see that it lives.
            self._wait(0)
        for digest, results in self._work.take_rest().items():
            for result in results:
                # One that failed is looked at by the next run; only this one knew of a success.
                if result.failure is None:
                    self._record(self._registrar.sync().deployments[digest], result)

    def _take_over(self) -> None:
        self._speaker.take_over()
        self._memory.look(self._state())

    def _round(self) -> bool:
        """Do what can be done now; whether anything was."""
        state = self._registrar.sync()
        self._speaker.check_term(state)
        self._listen(self._registrar.now())
        acted = False
        order = self._memory.look(state)
        for digest in order:
            acted |= self._advance(digest)
        self._memory.keep(order)
        acted |= self._claims.consider(self._state(), self._registrar.head, self._registrar.now())
        self._count()
        return acted

    def _count(self) -> None:
        """Leave figures for whoever asks; they change with the entries alone."""
        self._figures.come_round()
        state = self._state()
        if self._memory.counted_at != self._registrar.head:
            self._memory.counted_at = self._registrar.head
            self._figures.stand(take_standing(state, self._registrar.now(), self._claims.open))

    def _listen(self, now: int) -> None:
        """Take note of a look at the ledger."""
        before, self._memory.looked_at = self._memory.looked_at, now
        if before is None or not before <= now <= before + GAP_S:
            if before is not None:
                self._log(f"{now - before} s between two looks at the ledger: frozen, or the clock was set")
            self._memory.listening_since = now

    def _state(self) -> State:
        """The state; read again after an append that failed, which leaves none."""
        return self._registrar.sync() if self._registrar.head == EMPTY_HEAD else self._registrar.state

    def _advance(self, digest: str) -> bool:
        state = self._state()
        deployment = state.deployments[digest]
        if deployment.live and self._until_idle:
            self._memory.handled.add(digest)
        if deployment.live and deployment.phase not in {Phase.HALTED, Phase.ROLLING_BACK}:
            self._watchman.ensure()
        results = self._work.take(digest)
        for result in results:
            self._record(deployment, result)
        if results:
            # It may have been packed meanwhile, and be another object now.
            state = self._state()
            deployment = state.deployments[digest]
        # While all go back there is nothing to decide but what becomes of one that had still been on its way forward.
        if deployment.phase is Phase.ROLLING_BACK and self._work.going_back(digest) and all(r.back for r in results):
            return bool(results)
        seen = Observations(
            self._memory.failed.get(digest, {}),
            self._memory.unrestored.get(digest, {}),
            digest in self._memory.no_space,
            self._memory.listening_since,
            self._memory.ahead_of(deployment),
        )
        action = decide(state, deployment, seen, self._registrar.now())
        if isinstance(action, Say):
            return self._say(deployment, action.detail)
        if isinstance(action, Apply | Restore):
            return self._begin(deployment, action) or bool(results)
        return bool(results)

    def _say(self, deployment: Deployment, detail: dict[str, Any]) -> bool:
        if detail["type"] in {"PAUSED", "HALTED"}:
            self._work.turn_back(deployment.lease_digest)
        if detail["type"] == "ROLLBACK_STARTED":
            self._memory.unrestored.pop(deployment.lease_digest, None)
            self._memory.tries.clear()
        if "instances" in detail:
            detail = {**detail, "instances": list_json(detail["instances"], self._objects)}
        return self._tell(deployment, detail)

    def _tell(self, deployment: Deployment, detail: dict[str, Any]) -> bool:
        """Append an event. Where the disk is full for a step forward, the next step is one back, and the reserve is for
        that.
        """
        try:
            return self._speaker.say((deployment.lease.id, deployment.lease_digest), detail) is not None
        except Unavailable as error:
            if error.code != DISK_FULL or detail["type"] in EVENTS:
                raise
            lease = deployment.lease.id
            self._log(warning_line(f"{lease} {detail['type']} not said: {error}", lease_id=lease, code=error.code))
            self._memory.no_space.add(deployment.lease_digest)
            return True

    def _begin(self, deployment: Deployment, action: Apply | Restore) -> bool:
        """Let workers do what was decided; whether anything began."""
        digest = deployment.lease_digest
        fleet = self._registrar.state.fleets[deployment.lease.fleet]
        if isinstance(action, Apply):
            if self._work.busy(digest) or self._upkeep.busy:
                return False
            names, do = action.instances, self._apply_one
        else:
            names, do = self._can_go_back(digest, action), self._restore_one
            if not names:
                return False
        known = self._memory.instances_of(deployment, fleet)
        policy = self._registrar.state.policies[deployment.lease.policy]
        self._work.begin(
            digest,
            {name: partial(do, step_of(deployment, known[name], policy)) for name in names},
            back=isinstance(action, Restore),
        )
        return True

    def _can_go_back(self, digest: str, action: Restore) -> tuple[str, ...]:
        """The instances whose way back can begin. One that is still on its way forward keeps no other waiting; one
        whose restore failed is tried again when the others are done.
        """
        under_way = self._work.under_way(digest)
        again = not any(under_way.values())
        return tuple(
            name
            for name in action.instances
            if name not in under_way and (again or not self._memory.tries.get((digest, name)))
        )

    def _record(self, deployment: Deployment, result: Result) -> None:
        """Say a result in the ledger, or remember why there is none."""
        digest, name = deployment.lease_digest, result.name
        if result.failure is None:
            # That an instance came forward while the others went back already is of no use to anyone.
            if result.back or (deployment.phase, "INSTANCE_APPLIED") in MOVES:
                self._tell(deployment, result_detail(deployment, result))
            return
        what = "not restored" if result.back else "failed"
        self._figures.count_error(result.failure.code)
        text = f"{deployment.lease.id} instance {name} {what}: {result.failure.code}: {result.failure.text}"
        lease, code = deployment.lease.id, result.failure.code
        self._log(warning_line(text, lease_id=lease, instance=name, code=code))
        if not result.back:
            self._memory.failed.setdefault(digest, {})[name] = result.failure
            return
        tries = self._memory.tries.get((digest, name), 0) + 1
        self._memory.tries[digest, name] = tries
        if tries >= RESTORE_TRIES:
            self._memory.unrestored.setdefault(digest, {})[name] = result.failure

    def _apply_one(self, step: Step) -> Outcome:
        with self._figures.timing("apply"):
            apply_instance(self._hosts(step.instance), step, self._speaker.fence)
        return Outcome()

    def _restore_one(self, step: Step) -> Outcome:
        with self._figures.timing("restore"):
            return restore_instance(self._hosts(step.instance), step, self._speaker.fence)

    def _idle(self) -> bool:
        """Whether nothing is under way. Leases that wait for keys or time are not ours to wait for."""
        state, now = self._state(), self._registrar.now()
        return (
            self._work.idle
            and self._claims.idle
            and all(
                isinstance(decide(state, state.deployments[digest], Observations(), now), Finished)
                for digest in in_order(state)
            )
        )

    def _outcome(self) -> Exit:
        state = self._state()
        phases = {state.deployments[digest].phase for digest in self._memory.handled}
        if Phase.ROLLBACK_FAILED in phases:
            return Exit.ROLLBACK_FAILED
        if Phase.ROLLED_BACK in phases:
            return Exit.ROLLED_BACK
        if Phase.ABORTED in phases or self._claims.refused:
            return Exit.REFUSED
        return Exit.DONE
