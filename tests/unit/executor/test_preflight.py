"""What an executor looks at before it claims a lease that carries both keys."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fleetsim import Place, Simulation
from station import Station, fleet, matrix, tree_digest

from executor.rollout.claim import RETRY_S
from executor.rollout.preflight import SPARE_BYTES
from executor.trees.tree import Directory, File, make_tree
from keys.errors import Exit
from policies.fold.deployment import Phase
from policies.kinds import ABSENT

NAMES = ["web-01", "web-02"]
HIDDEN = b"#!/bin/sh\n"


def begin(
    root: Path, before: str, folder: str = "bin", *, body: Any = None, **lease: Any
) -> tuple[Simulation, tuple[str, str], str]:
    """A lease that says it changes app.py, adds a program in `folder`, and was approved by a human and the
    validator.
    """
    targets = {"web": {"paths": ["app.py", "bin/", "static/"]}}
    policy = matrix(tiers=[100], bake_s=2, interval_s=1, reviews=["validator"], targets=targets)
    station = Station(root, policy=policy)
    station.genesis()
    station.enact_fleet(body or fleet(len(NAMES)))
    scene = Simulation(station)
    assert station.state.fleet is not None
    for instance in station.state.fleet.targets["web"].instances:
        if before != ABSENT:
            place = scene.hosts.place(instance)
            place.current = place.serving = before
            place.releases.add(before)
    program = station.objects.put(HIDDEN)
    content = station.objects.put(b"v2")
    new = make_tree(
        [
            File("app.py", content.sha256, content.size, executable=False),
            Directory(folder),
            File(f"{folder}/run", program.sha256, program.size, executable=True),
        ]
    )
    station.objects.put(new.manifest)
    subject = station.propose(
        artifact={"type": "directory", **new.ref.to_json()},
        changes=[{"before": before, "after": new.digest, "instances": NAMES}],
        **lease,
    )
    station.vote("ada", subject, "approver")
    station.review("cp18", subject)
    return scene, subject, new.digest


@pytest.mark.parametrize("before", [tree_digest("v1"), ABSENT])
def test_path_that_the_lease_does_not_name_is_refused_though_two_keys_approved(tmp_path: Path, before: str) -> None:
    scene, subject, _ = begin(tmp_path, before, paths=["app.py"])
    assert scene.run() is Exit.REFUSED
    lease = scene.station.state.leases[subject[1]]
    assert lease.claim_seq is None
    ((_, code, text),) = lease.preflight
    assert (code, "bin" in text) == ("path_hidden", True)
    assert all(place.current == before for place in scene.hosts.places.values())


def test_tree_before_that_nobody_can_compare_with_stops_the_claim(tmp_path: Path) -> None:
    unknown = sha256(b"a tree whose manifest is not in the store").hexdigest()
    scene, subject, _ = begin(tmp_path, unknown, paths=["app.py"])
    assert scene.run() is Exit.REFUSED
    lease = scene.station.state.leases[subject[1]]
    assert [code for _, code, _ in lease.preflight] == ["object_missing"]


@pytest.mark.parametrize(("room", "code"), [(0, None), (-1, "no_space")])
def test_host_without_room_for_the_release_stops_the_claim(tmp_path: Path, room: int, code: str | None) -> None:
    scene, subject, _ = begin(tmp_path, ABSENT, folder="static", paths=["app.py", "static/", "static/run"])
    look, free = scene.hosts.inspect, len(b"v2") + len(HIDDEN) + SPARE_BYTES + room
    scene.hosts.inspect = lambda instance: look(instance).model_copy(update={"free_bytes": free})  # type: ignore[method-assign]
    assert scene.run() is (Exit.DONE if code is None else Exit.REFUSED)
    lease = scene.station.state.leases[subject[1]]
    assert [told for _, told, _ in lease.preflight] == ([] if code is None else [code])
    assert (lease.claim_seq is None) == (code is not None)


def test_root_that_cannot_be_written_consumes_no_lease(tmp_path: Path) -> None:
    scene, subject, _ = begin(tmp_path, ABSENT, paths=["app.py", "bin/", "bin/run"])
    scene.hosts.places["web-02"] = Place(writable=False)
    assert scene.run() is Exit.REFUSED
    lease = scene.station.state.leases[subject[1]]
    assert lease.claim_seq is None
    ((_, code, text),) = lease.preflight
    assert (code, "instance web-02: " in text, "is read-only" in text) == ("host_io", True, True)
    scene.hosts.places["web-02"].writable = True
    scene.station.clock.tick(RETRY_S)
    assert scene.run() is Exit.DONE
    assert scene.station.state.deployments[subject[1]].phase is Phase.COMPLETED


def test_root_that_leads_to_another_instance_stops_the_claim(tmp_path: Path) -> None:
    # Both would be flipped by either, and the process of one would be ended for the other's.
    (tmp_path / "srv" / "web-01").mkdir(parents=True)
    (tmp_path / "srv" / "web-02").symlink_to("web-01")
    rows = [{"name": name, "root": str(tmp_path / "srv" / name)} for name in NAMES]
    scene, subject, _ = begin(
        tmp_path, ABSENT, body={"targets": {"web": {"instances": rows}}}, paths=["app.py", "bin/", "bin/run"]
    )
    assert scene.run() is Exit.REFUSED
    lease = scene.station.state.leases[subject[1]]
    assert lease.claim_seq is None
    assert [code for _, code, _ in lease.preflight] == ["root_shared"]
