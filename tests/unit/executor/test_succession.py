"""The machines follow a ledger that continues theirs, and obey the old one no more: with a whole executor."""

from __future__ import annotations

from pathlib import Path

from fleetsim import Simulation
from station import Station, fleet, matrix, tree_digest

from executor.rollout.run import Executor
from executor.trees.tree import make_tree
from policies.fold.deployment import Phase
from policies.kinds import ABSENT
from policies.lawful import read_lawful

NAMES = ["web-01", "web-02"]


class Scene(Simulation):
    """A simulation that deploys an empty tree to two machines. `earlier`: as an executor has it."""

    earlier: tuple[str, ...] = ()

    def executor(self, who: str = "cp20") -> Executor:
        found = super().executor(who)
        found._speaker._earlier = self.earlier
        return found

    def deploy(self, number: int) -> Phase | None:
        """Deploy once more; the phase it ended in, None when no machine let it be claimed."""
        station = self.station
        new = make_tree([], ())
        old = tree_digest("v1")
        station.objects.put(new.manifest)
        current = {place.current for place in self.hosts.places.values()} or {ABSENT}
        (before,) = current
        after = new.digest if before != new.digest else station.put_tree("v1").sha256
        assert after in {new.digest, old}
        size = len(new.manifest) if after == new.digest else station.put_tree("v1").size
        lease = station.propose(
            f"LEASE-20260105-09000{number}",
            artifact={"type": "directory", "sha256": after, "size": size},
            changes=[{"before": before, "after": after, "instances": NAMES}],
        )
        station.approve(lease)
        self.run()
        deployment = station.state.deployments.get(lease[1])
        return None if deployment is None else deployment.phase


def new_scene(root: Path, seed: int, before: Station | None = None) -> Scene:
    station = Station(root, seed=seed, policy=matrix(tiers=[100], bake_s=2, interval_s=1))
    continues = None
    if before is not None:
        head = before.store.head()
        continues = {"ledger": before.state.ledger, "head": {"size": head.size, "hash": head.hash}}
    station.genesis(continues=continues)
    station.enact_fleet(fleet(len(NAMES)))
    return Scene(station)


def test_machines_follow_the_new_ledger_and_refuse_the_old_one_for_good(tmp_path: Path) -> None:
    old = new_scene(tmp_path / "old", 1)
    assert old.deploy(1) is Phase.COMPLETED
    new = new_scene(tmp_path / "new", 2, old.station)
    new.hosts = old.hosts
    assert new.deploy(1) is Phase.COMPLETED
    fences = {place.fence for place in new.hosts.places.values()}
    trees = {place.current for place in new.hosts.places.values()}
    assert {fence.ledger for fence in fences if fence is not None} == {new.station.state.ledger}
    # The old ledger's executor was forgotten somewhere, and has a newer epoch than any of the new one's.
    # The machines are looked at before the claim, so that nothing is consumed.
    assert old.deploy(2) is None
    assert "PREFLIGHT_FAILED web-01 other_ledger" in " ".join(old.log)
    assert {place.fence for place in new.hosts.places.values()} == fences
    assert {place.current for place in new.hosts.places.values()} == trees
    assert new.deploy(2) is Phase.COMPLETED


def test_stranger_that_continues_nothing_touches_no_machine(tmp_path: Path) -> None:
    old = new_scene(tmp_path / "old", 1)
    assert old.deploy(1) is Phase.COMPLETED
    trees = {name: place.current for name, place in old.hosts.places.items()}
    stranger = new_scene(tmp_path / "new", 2)
    stranger.hosts = old.hosts
    assert stranger.deploy(1) is None
    assert "PREFLIGHT_FAILED web-01 other_ledger" in " ".join(stranger.log)
    assert {name: place.current for name, place in old.hosts.places.items()} == trees


def test_machine_that_slept_through_a_whole_ledger_follows_the_third(tmp_path: Path) -> None:
    first = new_scene(tmp_path / "1", 1)
    assert first.deploy(1) is Phase.COMPLETED
    second = new_scene(tmp_path / "2", 2, first.station)
    third = new_scene(tmp_path / "3", 3, second.station)
    third.hosts = first.hosts
    third.earlier = (first.station.state.ledger,)
    assert third.deploy(1) is Phase.COMPLETED


def test_lawful_beginning_of_a_whole_ledger_is_all_of_it(tmp_path: Path) -> None:
    station = new_scene(tmp_path, 1).station
    found = read_lawful(station.store, station.objects)
    assert found.ended is None
    assert found.confirmed
    assert found.head == station.store.head()
    assert found.state.trust_digest == station.state.trust_digest
