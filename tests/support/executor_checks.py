"""What must hold of a home and a machine after an executor's end, whatever ended it: each problem is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from executor_world import Run, World

from executor.hosts.layout import layout_of, read_current
from executor.hosts.local_host import LocalHost
from executor.hosts.releases import check_release
from keys.errors import CalyxError
from ledger.record import parse_record
from ledger.statement import parse_statement
from policies.fold.deployment import Phase


def problems_at_once(world: World, done: Run) -> Iterator[str]:
    """What is wrong right after the executor's end, whatever ended it."""
    world.open()
    deployment = world.station.state.deployments.get(world.lease[1])
    if done.acknowledged > world.station.state.size:
        yield f"{done.acknowledged} entries were acknowledged, and {world.station.state.size} are there"
    lease = world.station.state.leases[world.lease[1]]
    for instance in world.instances:
        layout = layout_of(instance)
        tree = read_current(layout)
        if tree not in {lease.before[instance.name], lease.after[instance.name]}:
            yield f"{instance.name} is on {tree[:16]}"
        with suppress_problem() as problem:
            check_release(layout, tree)
        yield from problem
    touched = deployment is not None and deployment.intended
    if not touched and any(
        read_current(layout_of(instance)) != lease.before[instance.name] for instance in world.instances
    ):
        yield "a machine was changed before it was said"
    world.station.store.close()


def problems_at_the_end(world: World, allowed: set[Phase], *, clean: bool = True) -> Iterator[str]:
    """What is wrong once everything came to an end. `clean`: nothing half made may be left on the machine."""
    world.open()
    state = world.station.state
    deployment = state.deployments.get(world.lease[1])
    if deployment is None or deployment.phase not in allowed:
        yield f"the end is {deployment and deployment.phase}"
    else:
        wanted = deployment.after if deployment.phase is Phase.COMPLETED else deployment.before
        host = LocalHost(world.station.objects)
        for instance in world.instances:
            with suppress_problem() as problem:
                host.scrub(instance, wanted[instance.name])
                # Restoring the copy ended the service; only an executor that had to do with it starts it again.
                if instance.name in deployment.intended:
                    host.settle(instance, wanted[instance.name])
            yield from problem
            left = list((layout_of(instance).private / "staging").iterdir())
            if left and clean:
                yield f"{left[0]} was left"
    if state.live:
        yield "a deployment is live"
    yield from (f"{event} was said twice" for event, times in _events(world).items() if times > 1)
    world.station.store.close()


def trees_left(world: World) -> Iterator[str]:
    """What an executor that has ended left where it works things out."""
    yield from (f"{path} was left" for path in (world.home / "run" / "work").glob("*/*"))


def _events(world: World) -> Counter[tuple[Any, ...]]:
    said: Counter[tuple[Any, ...]] = Counter()
    for data in world.station.store.read():
        statement = parse_statement(parse_record(data).envelope.body)
        if statement.kind == "event" and statement.subject_digest == world.lease[1]:
            detail = statement.predicate["detail"]
            said[tuple(detail.get(name) for name in ("type", "tier", "instance", "n", "code"))] += 1
        elif statement.kind == "claim":
            said["claim", statement.subject_digest] += 1
    return said


class suppress_problem:  # noqa: N801  # reads as `contextlib.suppress` does
    """Catches a refusal and gives it as a line."""

    def __enter__(self) -> list[str]:
        self.found: list[str] = []
        return self.found

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, CalyxError):
            self.found.append(str(error))
            return True
        return False
