"""Attacks on what is deployed: the artifact changes after it was approved, in the store and on the host's disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetsim import Simulation
from instances import unseal, write_files
from station import Station, matrix

from executor.hosts.local_host import LocalHost
from executor.rollout.run import Executor
from executor.trees.materialise import materialise
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.errors import Exit
from ledger.objects import ObjectStore
from policies.fleet import Instance
from policies.fold.deployment import Phase
from policies.kinds import ABSENT

GOOD, EVIL = b"print('approved')\n", b"print('evil')\n"


class Scene:
    """One approved lease from nothing to a tree, on a real directory of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.station = Station(root / "station", policy=matrix(tiers=[100], bake_s=2, interval_s=1))
        self.station.genesis()
        self.instance = Instance(name="web-01", root=str(root / "srv"))
        row = {"name": "web-01", "root": self.instance.root}
        self.station.enact_fleet({"targets": {"web": {"instances": [row], "max_unavailable": 1}}})
        self.tree: Tree = ingest(write_files(root / "source", {"app.py": GOOD}), self.station.objects, ())
        self.lease = self.station.propose(
            artifact={"type": "directory", **self.tree.ref.to_json()},
            changes=[{"before": ABSENT, "after": self.tree.digest, "instances": ["web-01"]}],
        )
        self.station.approve(self.lease)

    @property
    def release(self) -> Path:
        return Path(self.instance.root) / "releases" / self.tree.digest

    @property
    def served(self) -> bytes | None:
        """What a service would read."""
        path = Path(self.instance.root) / "current" / "app.py"
        return path.read_bytes() if path.exists() else None

    def object(self, digest: str) -> Path:
        return self.station.root / "objects" / digest[:2] / digest[2:]

    def run(self, host: LocalHost | None = None) -> Exit:
        simulation = Simulation(self.station)
        executor = Executor(
            self.station.new_registrar(),
            self.station.signer("cp20"),
            self.station.objects,
            lambda instance: host or LocalHost(self.station.objects),
            simulation,
            wait=simulation.wait,
            log=simulation.log.append,
            pools=simulation.pools,
        )
        return executor.run(until_idle=True)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def test_honest_artifact_is_deployed(scene: Scene) -> None:
    assert scene.run() is Exit.DONE
    assert scene.served == GOOD


@pytest.mark.parametrize("what", ["file", "manifest"])
def test_artifact_changed_in_the_object_store(scene: Scene, what: str) -> None:
    """Between approval and claim: the refusal consumes nothing, and with the true content back it goes on."""
    if what == "file":
        (entry,) = scene.tree.entries
        path, evil = scene.object(entry.sha256), EVIL  # type: ignore[union-attr]  # the one entry is a file
    else:
        path = scene.object(scene.tree.digest)
        evil = path.read_bytes().replace(b"app.py", b"bpp.py")
    true = path.read_bytes()
    overwrite(path, evil)
    assert scene.run() is Exit.REFUSED
    lease = scene.station.state.leases[scene.lease[1]]
    assert [code for _, code, _ in lease.preflight] == ["object_mismatch"]
    assert lease.claim_seq is None
    assert scene.served is None
    overwrite(path, true)
    assert scene.run() is Exit.DONE
    assert scene.served == GOOD


def test_release_planted_on_the_host_before_the_deployment(scene: Scene) -> None:
    """A directory under the very name that the approved release will have."""
    write_files(scene.release, {"app.py": EVIL})
    assert scene.run() is Exit.DONE
    assert scene.served == GOOD


def test_release_planted_as_a_link(scene: Scene, tmp_path: Path) -> None:
    elsewhere = write_files(tmp_path / "elsewhere", {"app.py": GOOD})
    scene.release.parent.mkdir(parents=True)
    scene.release.symlink_to(elsewhere)
    scene.run()
    # The good content was a lure: whoever owns the other end could change it later.
    overwrite(elsewhere / "app.py", EVIL)
    assert scene.served in {GOOD, None}


class Tampered(LocalHost):
    """A host on whose disk someone changes what is being staged, before it becomes a release."""

    def __init__(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(scene.station.objects)
        write = materialise

        def write_and_change(tree: Tree, objects: ObjectStore, dest: Path) -> None:
            write(tree, objects, dest)
            overwrite(dest / "app.py", EVIL)

        monkeypatch.setattr("executor.hosts.releases.materialise", write_and_change)


def test_release_changed_while_it_is_staged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once more before it gets its name, so nothing is flipped to."""
    assert scene.run(Tampered(scene, monkeypatch)) is Exit.ROLLED_BACK
    assert scene.served is None
    deployment = scene.station.state.deployments[scene.lease[1]]
    assert deployment.phase is Phase.ROLLED_BACK
    assert not deployment.applied
    assert not scene.release.exists()


def test_release_changed_after_the_flip_stops_the_next_lease(scene: Scene) -> None:
    """Whoever can write on the host can change what runs; the next rollout begins from no such tree."""
    assert scene.run() is Exit.DONE
    unseal(scene.release)
    overwrite(scene.release / "app.py", EVIL)
    after = ingest(write_files(scene.root / "next", {"app.py": b"print('next')\n"}), scene.station.objects, ())
    lease = scene.station.propose(
        "LEASE-20260105-090001",
        artifact={"type": "directory", **after.ref.to_json()},
        changes=[{"before": scene.tree.digest, "after": after.digest, "instances": ["web-01"]}],
    )
    scene.station.approve(lease)
    assert scene.run() is Exit.REFUSED
    known = scene.station.state.leases[lease[1]]
    assert [code for _, code, _ in known.preflight] == ["tree_dirty"]
    assert known.claim_seq is None
