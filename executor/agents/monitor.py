"""CP19, the monitor, says what it sees of a deployment: a baseline before the first tier, then one sample per interval
from a tier's bake on, and a verdict on each, until the next tier bakes.

It watches through a pause, and signs no number that it did not measure: an interval that it missed is skipped, and a
reading that failed is null. Which sample is next stands in the ledger; only where a window began is kept in memory, so
a monitor that was restarted opens a new window and goes on with a later sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from msgspec import structs

from executor.agents.loop import Ledger, Tries, one_line
from executor.hosts.host import Hosts, Observed
from executor.logbook import Log
from executor.metrics.gates import RunningJudge
from executor.metrics.measure import MAX_NOTE, Meters, Place, Snapshot, gate_values, raw_values
from executor.rollout.decide import WATCHED
from keys.canonical import Json, format_json
from keys.errors import CalyxError, Unavailable
from keys.signer import Signer
from ledger.objects import ObjectStore
from policies.event_kinds import GateValue
from policies.fleet import Instance, Target
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import State
from policies.kinds import ABSENT, MAX_GROUPS, Lease
from policies.matrix import Gate
from policies.names import list_json
from policies.submitter import Draft, Receipt

MAX_AT_ONCE: Final = 16


@dataclass(slots=True)
class _Watch:
    """What this process keeps of one deployment. `window`: what is being watched now. `opened_at`: when the window
    began, None for no window. Seconds that only grow, and not the clock: that may jump, and what was not watched in
    between would count as watched.
    """

    meters: Meters
    judge: RunningJudge = field(default_factory=RunningJudge)
    window: tuple[int, int | None] | None = None
    opened_at: float | None = None
    first_opened_at: float = 0.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the hosts showed. `drift`: the first instance that runs another tree than it should, in words."""

    places: Sequence[Place]
    trees: Mapping[str, Sequence[str]]
    drift: str | None
    unseen: Mapping[str, str] = field(default_factory=dict)


class Monitor:
    """The monitor of one ledger. `meters`: opens the meters of a deployment."""

    def __init__(
        self,
        ledger: Ledger,
        signer: Signer,
        objects: ObjectStore,
        hosts: Hosts,
        meters: Callable[[Lease], Meters],
        *,
        monotonic: Callable[[], float],
        log: Log,
    ) -> None:
        self._ledger: Final = ledger
        self._signer: Final = signer
        self._objects: Final = objects
        self._hosts: Final = hosts
        self._meters: Final = meters
        self._log: Final = log
        self._monotonic: Final = monotonic
        self._tries: Final = Tries(monotonic, log)
        self._watches: Final[dict[str, _Watch]] = {}

    def act(self, state: State) -> None:
        """Take the baselines, samples and verdicts that are due."""
        for digest in self._watches.keys() - set(state.live.values()):
            del self._watches[digest]
        for digest in list(state.live.values()):
            deployment = state.deployments[digest]
            self._tries.run(digest, deployment.lease.id, partial(self._attend, state, deployment))

    def _attend(self, state: State, deployment: Deployment) -> None:
        if deployment.lease_digest not in self._watches:
            self._watches[deployment.lease_digest] = _Watch(self._meters(deployment.lease))
        watch = self._watches[deployment.lease_digest]
        target = state.fleets[deployment.lease.fleet].targets[deployment.lease.target]
        # A deployment that waits for its order to start may wait for days: its baseline is that of the day it starts.
        begun = deployment.started or deployment.lease.start == "auto"
        if begun and deployment.baseline is None and deployment.phase in {Phase.CLAIMED, Phase.DEPLOYING}:
            self._take_baseline(deployment, target, watch)
        elif deployment.working_phase in WATCHED and deployment.bake_started_at is not None:
            self._take_sample(deployment, target, watch, deployment.bake_started_at)

    def _take_baseline(self, deployment: Deployment, target: Target, watch: _Watch) -> None:
        cohort = [name for name, tree in deployment.before.items() if tree != ABSENT]
        if not cohort:
            self._give_baseline(deployment, None)
            return
        lease, now = deployment.lease, self._monotonic()
        if watch.opened_at is None:
            snapshot = self._open_window(target, watch, (0, None), self._look(deployment, target, cohort), now)
            watch.first_opened_at = now
        elif now - watch.opened_at < lease.interval_s:
            return
        else:
            snapshot = watch.meters.read(target, self._look(deployment, target, cohort).places)
            watch.opened_at = now
        measured = gate_values(lease.gates, snapshot, cohort, ())
        values = [_substantial(gate, value) for gate, value in zip(lease.gates, measured, strict=True)]
        # Only gates against the baseline read it. For these a value is waited for as long as they wait for one later.
        lacking = [
            gate
            for gate, value in zip(lease.gates, values, strict=True)
            if gate.against == "baseline" and value.value is None
        ]
        waited_s = now - watch.first_opened_at
        if all(waited_s >= max(lease.interval_s, gate.missing_s) for gate in lacking):
            self._give_baseline(deployment, values)

    def _give_baseline(self, deployment: Deployment, values: Sequence[GateValue] | None) -> None:
        said = None if values is None else [value.to_json() for value in values]
        receipt = self._say(deployment, {"type": "BASELINE", "values": said})
        shown = "none, from absent" if values is None else _spell(values)
        self._log(f"{deployment.lease.id} baseline: {shown} (entry {receipt.seq})")

    def _take_sample(self, deployment: Deployment, target: Target, watch: _Watch, began: int) -> None:
        lease, now, tier = deployment.lease, self._monotonic(), deployment.watched_tier
        # Instances of the next tier are neither: they restart while it is applied, and nobody expects values of them.
        cohort = [one.name for one in target.instances if deployment.tier_of.get(one.name, 101) <= tier]
        if watch.window != (tier, began):
            # The left edge of the first interval.
            seen = self._look(deployment, target, cohort)
            self._open_window(target, watch, (tier, began), seen, now)
            return
        opened_at = now if watch.opened_at is None else watch.opened_at
        newest = deployment.samples[-1] if deployment.samples else None
        last = 0 if newest is None else newest.n
        n = (self._ledger.now() - began) // lease.interval_s
        # After a restart the window is shorter than the interval; one much shorter says too little, and n is skipped.
        if n <= last or 2 * (now - opened_at) < lease.interval_s:
            return
        seen = self._look(deployment, target, cohort)
        snapshot = watch.meters.read(target, seen.places, began)
        watch.opened_at = now
        rest = [one.name for one in target.instances if one.name not in deployment.intended]
        values = gate_values(lease.gates, snapshot, cohort, rest)
        detail = {
            "type": "SAMPLE",
            "tier": tier,
            "n": n,
            "values": [value.to_json() for value in values],
            "trees": [
                {"tree": tree, "instances": list_json(names, self._objects, len(seen.trees))}
                for tree, names in seen.trees.items()
            ],
            "raw": self._keep_raw(snapshot, seen, int(now - opened_at)),
        }
        receipt = self._say(deployment, detail)
        self._log(f"{lease.id} sample {n} of {tier} %: {_spell(values)} (entry {receipt.seq})")
        self._give_verdict(watch, deployment.lease_digest, tier, n, seen.drift)

    def _give_verdict(self, watch: _Watch, digest: str, tier: int, n: int, drift: str | None) -> None:
        deployment = self._ledger.sync().deployments[digest]
        newest = deployment.samples[-1] if deployment.samples else None
        if newest is None or (newest.tier, newest.n, deployment.watched_tier) != (tier, n, tier):
            return
        judgement = watch.judge.judge(deployment, self._ledger.now(), drift)
        detail = {
            "type": "VERDICT",
            "tier": tier,
            "n": n,
            "verdict": judgement.verdict,
            "gate": judgement.gate,
            "text": one_line(judgement.text),
        }
        receipt = self._say(deployment, detail)
        name = deployment.lease.id
        self._log(f"{name} verdict {judgement.verdict} (entry {receipt.seq}): {one_line(judgement.text)}")

    def _open_window(
        self, target: Target, watch: _Watch, window: tuple[int, int | None], seen: _Seen, now: float
    ) -> Snapshot:
        snapshot = watch.meters.read(target, seen.places)
        watch.window, watch.opened_at = window, now
        return snapshot

    def _look(self, deployment: Deployment, target: Target, cohort: Sequence[str]) -> _Seen:
        """Inspect the cohort, and the rest of the target where a gate compares with it."""
        members = set(cohort)
        compares = any(gate.against == "rest" for gate in deployment.lease.gates)
        wanted = [instance for instance in target.instances if compares or instance.name in members]
        with ThreadPoolExecutor(max_workers=MAX_AT_ONCE) as pool:
            found = list(pool.map(self._inspect, wanted))
        trees: dict[str, list[str]] = {}
        unseen: dict[str, str] = {}
        drift: str | None = None
        places = []
        for instance, observed in zip(wanted, found, strict=True):
            known = observed if isinstance(observed, Observed) else None
            places.append(Place(instance, None if known is None else known.process))
            if instance.name not in members:
                continue
            expected = (deployment.after if deployment.tier else deployment.before).get(instance.name)
            if known is not None:
                trees.setdefault(known.tree, []).append(instance.name)
            elif isinstance(observed, CalyxError):
                unseen[instance.name] = one_line(str(observed), MAX_NOTE)
            drift = drift or _drift(instance, observed, expected)
        return _Seen(places, dict(list(trees.items())[:MAX_GROUPS]), drift, unseen)

    def _inspect(self, instance: Instance) -> Observed | CalyxError:
        try:
            return self._hosts(instance).inspect(instance)
        except CalyxError as error:
            return error

    def _keep_raw(self, snapshot: Snapshot, seen: _Seen, window_s: int) -> Json:
        readings = raw_values(snapshot)
        raw: Json = {"readings": readings, "unseen": dict(seen.unseen), "version": 1, "window_s": window_s}
        try:
            return self._objects.put(format_json(raw)).to_json()
        except Unavailable as error:
            # The values themselves are in the sample; a full disk must not blind whoever watches.
            self._log(f"raw values are not kept: {one_line(str(error))}")
            return None

    def _say(self, deployment: Deployment, detail: dict[str, Any]) -> Receipt:
        subject = (deployment.lease.id, deployment.lease_digest)
        return self._ledger.submit(self._signer, Draft("event", {"epoch": None, "detail": detail}, subject))


def _drift(instance: Instance, observed: Observed | CalyxError, expected: str | None) -> str | None:
    if isinstance(observed, Unavailable):
        return None  # not seen is not drift; its values are missing too
    if isinstance(observed, CalyxError):
        return f"instance {instance.name}: {observed.message}"
    if observed.tree == expected:
        return None
    return f"instance {instance.name} is on {observed.tree[:16]}, not on the lease's tree"


def _substantial(gate: Gate, value: GateValue) -> GateValue:
    """The value, or null where it rests on too few requests: a rate of three requests is no measure for later ones."""
    if gate.source != "error_rate" or (value.requests or 0) >= gate.min_requests:
        return value
    return structs.replace(value, value=None)


def _spell(values: Sequence[GateValue]) -> str:
    return ", ".join(f"{value.gate} {'none' if value.value is None else value.value}" for value in values)
