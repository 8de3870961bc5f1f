"""A monitor over hosts and measurements that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from station import GATES, Station, fleet, matrix, tree_digest

from executor.agents.monitor import Monitor
from executor.hosts.host import Host, Observed, Running
from executor.metrics.measure import Meters, Place, Quantity, Reading
from keys.errors import CalyxError
from ledger.record import parse_record
from ledger.statement import Statement, parse_statement
from policies.fleet import Instance, Target
from policies.fold.deployment import Deployment

OLD, NEW = tree_digest("v1"), tree_digest("v2")
INTERVAL = 15


def gate(**changes: Any) -> dict[str, Any]:
    return {**GATES[0], **changes}


@dataclass
class World:
    """Hosts and measurements that a test changes as it likes. Readings are given for windows; the first has none."""

    trees: dict[str, str | CalyxError] = field(default_factory=dict)
    rates: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    tes: str | None = "90"
    since: list[int | None] = field(default_factory=list)
    reads: int = 0

    def inspect(self, instance: Instance) -> Observed:
        tree = self.trees.get(instance.name, OLD)
        if isinstance(tree, CalyxError):
            raise tree
        process = Running(pid=100, started=1, boot="b", tree=NEW)
        return Observed(tree=tree, adoptable=False, process=process, fence=None, free_bytes=0, writable=True)

    def host(self, instance: Instance) -> Host:
        return cast(Host, self)

    def meters(self, lease: object) -> Meters:
        return Meters([_Windows(self)], [self])

    def read(self, target: Target, since: int | None) -> Reading:
        self.since.append(since)
        return Reading({} if self.tes is None else {"tes": Decimal(self.tes)})


class _Windows:
    def __init__(self, world: World) -> None:
        self._world = world
        self._opened: set[str] = set()

    def read(self, places: Sequence[Place]) -> dict[str, Reading]:
        self._world.reads += 1
        return {place.instance.name: self._one(place.instance.name) for place in places}

    def _one(self, name: str) -> Reading:
        rate = self._world.rates.get(name, (100, 0))
        if name not in self._opened:
            self._opened.add(name)
            return Reading()
        if rate is None:
            return Reading(notes=("counters: ConnectError",))
        values: dict[Quantity, Decimal] = {"requests": Decimal(rate[0]), "errors": Decimal(rate[1])}
        return Reading(values)


@dataclass
class Scene:
    station: Station
    world: World
    lease: tuple[str, str] = ("", "")
    lines: list[str] = field(default_factory=list)
    ticks: float = 0.0

    def __post_init__(self) -> None:
        self.monitor = self.restart()

    def restart(self) -> Monitor:
        """Another process: it knows the ledger and nothing else."""
        self.monitor = Monitor(
            self.station.registrar,
            self.station.signer("cp19"),
            self.station.objects,
            self.world.host,
            self.world.meters,
            monotonic=lambda: self.ticks,
            log=self.lines.append,
        )
        return self.monitor

    @property
    def deployment(self) -> Deployment:
        return self.station.state.deployments[self.lease[1]]

    def act(self, seconds: int = 0) -> None:
        self.station.clock.tick(seconds)
        self.ticks += seconds
        self.monitor.act(self.station.state)

    def claim(self, **changes: Any) -> None:
        self.lease = self.station.propose(**changes)
        self.station.approve(self.lease)
        self.station.take_term()
        self.station.claim(self.lease)

    def bake(self, tier: int = 5) -> None:
        """To the beginning of a tier's bake, the monitor looking on."""
        self.act()
        self.act(INTERVAL)
        assert self.deployment.baseline is not None
        if not self.deployment.started:
            self.station.event("cp20", self.lease, "STARTED")
        self.station.deploy_tier(self.lease, tier)
        for name in self.deployment.applied:
            self.world.trees[name] = NEW
        self.act()

    def said(self) -> list[dict[str, Any]]:
        """Details of every event that the monitor signed."""
        return [statement.predicate["detail"] for statement in self.statements() if statement.by == "cp19"]

    def statements(self) -> list[Statement]:
        raw = self.station.store.read(0, self.station.state.size)
        return [parse_statement(parse_record(data).envelope.body) for data in raw]


def make_scene(tmp_path: Path, gates: list[dict[str, Any]] | None = None, body: dict[str, Any] | None = None) -> Scene:
    station = Station(tmp_path, policy=matrix(gates=gates or GATES))
    station.genesis()
    station.enact_fleet(body or fleet())
    return Scene(station, World())
