"""Planning a lease: what instances run is looked at and not believed, and the terms are held against the policy."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from instances import write_files
from station import Station

from executor.hosts.host import Host, Observed
from executor.proposals.propose import (
    Planned,
    Wish,
    check_terms,
    find_target,
    free_intent_id,
    free_lease_id,
    lease_fields,
    plan_change,
)
from executor.trees.scan import ingest, scan
from keys.errors import CalyxError
from keys.openssh import format_public, new_private_key
from policies.fleet import Instance, Target
from policies.fold.state import SignerRef
from policies.kinds import ABSENT, Artifact
from policies.names import open_names, open_paths
from policies.submitter import Draft

PATCH = b"""diff --git a/app.py b/app.py
--- a/app.py
+++ b/app.py
@@ -1 +1 @@
-print(1)
+print(2)
"""


@dataclass
class Machines:
    """Hosts that say what a test tells them."""

    trees: dict[str, str] = field(default_factory=dict)

    def __call__(self, instance: Instance) -> Host:
        return self  # type: ignore[return-value]  # only `inspect` is asked

    def inspect(self, instance: Instance) -> Observed:
        tree = self.trees.get(instance.name, ABSENT)
        return Observed(tree=tree, adoptable=False, process=None, fence=None, free_bytes=10**9, writable=True)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def target(tmp_path: Path, count: int = 3, **instance: Any) -> Target:
    names = [f"web-{n:03}" for n in range(count)]
    rows = [{"name": name, "root": str(tmp_path / "srv" / name), **instance} for name in names]
    return Target.from_json({"instances": rows})


def wish(source: Path, kind: Any = "directory", **changes: Any) -> Wish:
    return Wish(target="web", kind=kind, source=source, what="w", why="y", **changes)


def start(station: Station, tmp_path: Path, wanted: Target) -> None:
    """Genesis, and a fleet with this target in force."""
    station.genesis()
    station.enact_fleet({"targets": {"web": wanted.to_json()}})


def test_instances_are_grouped_by_what_they_run(station: Station, tmp_path: Path) -> None:
    wanted = target(tmp_path)
    old = ingest(write_files(tmp_path / "old", {"app.py": "print(1)\n"}), station.objects, ())
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n", "static/": ""})
    planned = plan_change(wish(source), wanted, Machines({"web-001": old.digest}), station.objects)
    assert planned.groups == {
        (ABSENT, planned.artifact.sha256): ["web-000", "web-002"],
        (old.digest, planned.artifact.sha256): ["web-001"],
    }
    assert planned.paths == ("app.py", "static/")
    assert planned.settled == ()


def test_instance_that_has_the_tree_already_is_left_out(station: Station, tmp_path: Path) -> None:
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n"})
    tree = ingest(source, station.objects, ())
    machines = Machines({"web-000": tree.digest, "web-001": tree.digest})
    planned = plan_change(wish(source), target(tmp_path), machines, station.objects)
    assert planned.settled == ("web-000", "web-001")
    assert list(planned.groups.values()) == [["web-002"]]
    machines.trees["web-002"] = tree.digest
    with pytest.raises(CalyxError) as caught:
        plan_change(wish(source), target(tmp_path), machines, station.objects)
    assert caught.value.code == "no_change"


def test_patch_leads_each_tree_to_its_own(station: Station, tmp_path: Path) -> None:
    one = ingest(write_files(tmp_path / "one", {"app.py": "print(1)\n"}), station.objects, ())
    two = ingest(write_files(tmp_path / "two", {"app.py": "print(1)\n", "VERSION": "7"}), station.objects, ())
    (tmp_path / "change.patch").write_bytes(PATCH)
    machines = Machines({"web-000": one.digest, "web-001": two.digest, "web-002": one.digest})
    planned = plan_change(wish(tmp_path / "change.patch", "patch"), target(tmp_path), machines, station.objects)
    assert planned.paths == ("app.py",)
    assert list(planned.groups.values()) == [["web-000", "web-002"], ["web-001"]]
    assert planned.artifact.sha256 == sha256(PATCH).hexdigest()
    assert all(station.objects.find(after) is not None for _, after in planned.groups)


def test_patch_that_does_not_apply_is_refused_with_the_instance(station: Station, tmp_path: Path) -> None:
    (tmp_path / "change.patch").write_bytes(PATCH)
    asked = wish(tmp_path / "change.patch", "patch")
    with pytest.raises(CalyxError) as caught:
        plan_change(asked, target(tmp_path), Machines(), station.objects)
    assert caught.value.code == "patch_failed"
    # It applies to what the first two run: without a name the person would look there.
    one = ingest(write_files(tmp_path / "one", {"app.py": "print(1)\n"}), station.objects, ())
    two = ingest(write_files(tmp_path / "two", {"app.py": "print(7)\n"}), station.objects, ())
    machines = Machines({"web-000": one.digest, "web-001": one.digest})
    with pytest.raises(CalyxError, match=r"app\.py is not there, on web-002, where nothing is deployed yet"):
        plan_change(asked, target(tmp_path), machines, station.objects)
    machines.trees["web-002"] = two.digest
    with pytest.raises(CalyxError, match=rf"patch failed: app\.py:1, on web-002, which runs {two.digest[:12]}"):
        plan_change(asked, target(tmp_path), machines, station.objects)


def test_tree_before_is_read_from_the_instance_when_nobody_kept_it(station: Station, tmp_path: Path) -> None:
    wanted = target(tmp_path, 1)
    current = write_files(Path(wanted.instances[0].root) / "current", {"app.py": "print(1)\n"})
    digest = scan(current).digest
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n"})
    planned = plan_change(wish(source), wanted, Machines({"web-000": digest}), station.objects)
    assert [before for before, _ in planned.groups] == [digest]
    assert station.objects.find(digest) is not None


def test_instance_that_is_not_what_it_says_is_refused(station: Station, tmp_path: Path) -> None:
    wanted = target(tmp_path, 1)
    write_files(Path(wanted.instances[0].root) / "current", {"app.py": "print(666)\n"})
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n"})
    with pytest.raises(CalyxError) as caught:
        plan_change(wish(source), wanted, Machines({"web-000": "ab" * 32}), station.objects)
    assert caught.value.code == "tree_dirty"


def test_unknown_tree_on_another_machine_is_refused(station: Station, tmp_path: Path) -> None:
    key = format_public(new_private_key(lambda size: b"\x07" * size).public)
    wanted = target(tmp_path, 1, address="deploy@host.example", host_key=key)
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n"})
    with pytest.raises(CalyxError) as caught:
        plan_change(wish(source), wanted, Machines({"web-000": "ab" * 32}), station.objects)
    assert caught.value.code == "object_missing"


def test_one_directory_for_different_shared_paths_is_refused(station: Station, tmp_path: Path) -> None:
    rows = [{"name": "a", "root": "/srv/a", "shared": ["data"]}, {"name": "b", "root": "/srv/b"}]
    source = write_files(tmp_path / "new", {"app.py": "print(2)\n"})
    with pytest.raises(CalyxError) as caught:
        plan_change(wish(source), Target.from_json({"instances": rows}), Machines(), station.objects)
    assert caught.value.code == "shared_differ"


@pytest.mark.parametrize("kind", ["directory", "patch"])
def test_missing_source_is_a_usage_error(station: Station, tmp_path: Path, kind: Any) -> None:
    with pytest.raises(CalyxError) as caught:
        plan_change(wish(tmp_path / "none", kind), target(tmp_path), Machines(), station.objects)
    assert caught.value.code == "source_missing"


def test_many_instances_and_paths_become_objects(station: Station, tmp_path: Path) -> None:
    wanted = target(tmp_path, 300)
    start(station, tmp_path, wanted)
    source = write_files(tmp_path / "new", {f"static/{n:03}": "" for n in range(300)})
    planned = plan_change(wish(source), wanted, Machines(), station.objects)
    fields = lease_fields(wish(source), planned, station.state, station.objects, station.clock.now)
    station.say("cbo", "intent", {"id": fields["intent"], "target": "web", "what": "w", "why": "y"})
    receipt = station.say("cbo", "lease", fields)
    lease = station.state.leases[receipt.digest].lease
    assert len(open_names(lease.changes[0].instances, station.objects)) == 300
    assert len(open_paths(lease.paths, station.objects)) == 301


def test_windows_follow_one_another(station: Station, tmp_path: Path) -> None:
    start(station, tmp_path, target(tmp_path))
    fields = lease_fields(wish(tmp_path, valid_s=600), _planned(), station.state, station.objects, station.clock.now)
    assert fields["not_before"] == "2026-01-05T09:00:00Z"
    assert fields["approve_by"] == "2026-01-05T09:10:00Z"
    assert fields["execute_by"] == "2026-01-05T10:10:00Z"
    # Three tiers of 30 s, four times, and an hour.
    assert fields["complete_by"] == "2026-01-05T11:16:00Z"


def test_ids_that_are_taken_get_a_suffix(station: Station, tmp_path: Path) -> None:
    station.genesis()
    station.enact_fleet()
    assert free_lease_id(station.state, station.clock.now) == "LEASE-20260105-090000"
    station.propose("LEASE-20260105-090000")
    assert free_lease_id(station.state, station.clock.now) == "LEASE-20260105-090000-2"
    station.propose("LEASE-20260105-090000-2")
    assert free_lease_id(station.state, station.clock.now) == "LEASE-20260105-090000-3"
    assert free_intent_id(station.state, station.clock.now) == "INT-20260105-001"
    station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "w", "why": "y"})
    assert free_intent_id(station.state, station.clock.now) == "INT-20260105-002"


def _planned(paths: tuple[str, ...] = ("app.py",)) -> Planned:
    after = sha256(b"after").hexdigest()
    artifact = Artifact(type="directory", sha256=after, size=5)
    return Planned(artifact, {(ABSENT, after): ["web-000", "web-001"]}, paths, ())


@pytest.mark.parametrize(
    ("changes", "paths", "code"),
    [
        ({}, ("app.py", "etc/passwd"), "path_not_allowed"),
        ({"tiers": (25, 100)}, ("app.py",), "tiers_missing"),
        ({"bake_s": 29}, ("app.py",), "bake_too_short"),
    ],
)
def test_lease_that_could_never_be_claimed_is_not_proposed(
    station: Station, tmp_path: Path, changes: dict[str, Any], paths: tuple[str, ...], code: str
) -> None:
    start(station, tmp_path, target(tmp_path))
    state, planned, now = station.state, _planned(paths), station.clock.now
    fields = lease_fields(wish(tmp_path, **changes), planned, state, station.objects, now)
    statement = station.registrar.draft_statement("cbo", Draft("lease", fields))
    before = deepcopy(state)
    with pytest.raises(CalyxError) as caught:
        check_terms(state, statement, planned, SignerRef("cbo", "overseer", "", "", "cbo"), now)
    assert (caught.value.code, caught.value.fields["step"]) == (code, 2)
    assert state == before


def test_stricter_terms_than_the_policy_s_are_fine(station: Station, tmp_path: Path) -> None:
    start(station, tmp_path, target(tmp_path))
    asked = wish(tmp_path, tiers=(1, 5, 25, 50, 100), bake_s=60, start="command", promotion="manual")
    planned, now = _planned(), station.clock.now
    fields = lease_fields(asked, planned, station.state, station.objects, now)
    statement = station.registrar.draft_statement("cbo", Draft("lease", fields))
    check_terms(station.state, statement, planned, SignerRef("cbo", "overseer", "", "", "cbo"), now)
    assert (fields["start"], fields["promotion"], fields["bake_s"]) == ("command", "manual", 60)


def test_unknown_target_is_a_usage_error_that_lists_the_known(station: Station, tmp_path: Path) -> None:
    station.genesis()
    with pytest.raises(CalyxError) as caught:
        find_target(station.state, "web")
    assert caught.value.code == "no_fleet"
    station.enact_fleet()
    with pytest.raises(CalyxError, match="it has web") as caught:
        find_target(station.state, "db")
    assert caught.value.code == "unknown_target"
