"""Leases made from earlier ones: what they start from, what they undo, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from governing import revoke
from instances import write_files
from refusal import refused
from station import PEOPLE, Station, matrix

from executor.hosts.host import Host, Observed
from executor.proposals.bases import promised_trees
from executor.proposals.propose import Planned, lease_fields
from executor.proposals.replan import ask_again, check_replaceable, check_revertible, plan_rebase, plan_revert
from executor.trees.reverse import prove_way_back
from executor.trees.scan import ingest
from executor.trees.tree import Tree, load_tree
from executor.views.lease_view import read_entry
from keys.canonical import format_json
from ledger.objects import ObjectRef
from policies.fleet import Instance
from policies.fold.deployment import Deployment
from policies.fold.state import LeaseState
from policies.kinds import ABSENT

LINES = "".join(f"{number}\n" for number in range(1, 21))
NAMES = ("web-01", "web-02")
Lease = tuple[str, str]


def text(**changed: str) -> str:
    lines = LINES.splitlines()
    for name, line in changed.items():
        lines[int(name[1:]) - 1] = line
    return "\n".join(lines) + "\n"


def patch_line(number: int, new: str) -> bytes:
    around = [f" {n}\n" for n in range(number - 3, number + 4)]
    around[3:4] = [f"-{number}\n", f"+{new}\n"]
    head = f"diff --git a/app.py b/app.py\n--- a/app.py\n+++ b/app.py\n@@ -{number - 3},7 +{number - 3},7 @@\n"
    return (head + "".join(around)).encode()


@dataclass
class Scene:
    """A station whose two instances run what a test says; trees by their content."""

    station: Station
    root: Path
    runs: dict[str, str] = field(default_factory=dict)
    count: int = 0

    def __call__(self, instance: Instance) -> Host:
        return self  # type: ignore[return-value]  # only `inspect` is asked

    def inspect(self, instance: Instance) -> Observed:
        tree = self.runs.get(instance.name, ABSENT)
        return Observed(tree=tree, adoptable=False, process=None, fence=None, free_bytes=10**9, writable=True)

    def tree(self, files: Mapping[str, str | bytes]) -> Tree:
        self.count += 1
        return ingest(write_files(self.root / f"tree-{self.count}", files), self.station.objects, ())

    def run_everywhere(self, tree: Tree) -> Tree:
        self.runs = dict.fromkeys(NAMES, tree.digest)
        return tree

    def lease(self, artifact: dict[str, Any], pairs: Mapping[tuple[str, str], list[str]], **more: Any) -> Lease:
        self.count += 1
        changes = [{"before": b, "after": a, "instances": names} for (b, a), names in pairs.items()]
        name = f"LEASE-20260105-{90_000 + self.count:06}"
        return self.station.propose(name, artifact=artifact, changes=changes, **more)

    def content(self, after: Tree, names: tuple[str, ...] = NAMES, **more: Any) -> Lease:
        """A lease that brings a whole tree to these instances, from what they run."""
        pairs: dict[tuple[str, str], list[str]] = {}
        for name in names:
            pairs.setdefault((self.runs.get(name, ABSENT), after.digest), []).append(name)
        artifact = {"type": "directory", "sha256": after.digest, "size": len(after.manifest)}
        return self.lease(artifact, pairs, **more)

    def patch(self, data: bytes, after: Tree, **more: Any) -> Lease:
        ref = self.station.objects.put(data)
        artifact = {"type": "patch", "sha256": ref.sha256, "size": ref.size}
        return self.lease(artifact, {(self.runs["web-01"], after.digest): list(NAMES)}, **more)

    def claim(self, lease: Lease, *, reverse: bool = True) -> Deployment:
        state = self.station.state.leases[lease[1]]
        pairs = {(state.before[name], state.after[name]) for name in state.after}
        way = prove_way_back(pairs, self.station.objects).ref if reverse else None
        self.station.approve(lease)
        self.station.take_term()
        self.station.claim(lease, reverse=None if way is None else way.to_json())
        return self.station.state.deployments[lease[1]]

    def deploy(self, lease: Lease, *, reverse: bool = True) -> Deployment:
        """Carry a lease to its end."""
        deployment = self.claim(lease, reverse=reverse)
        if any(tree != ABSENT for tree in deployment.before.values()):
            self.station.baseline(lease)
        else:
            self.station.event("cp19", lease, "BASELINE", values=None)
        self.station.event("cp20", lease, "STARTED")
        self.station.complete(lease)
        self.runs.update(deployment.after)
        return self.station.state.deployments[lease[1]]

    def state_of(self, lease: Lease) -> LeaseState:
        return self.station.state.leases[lease[1]]

    def rebase(self, lease: Lease, promised: dict[str, str] | None = None) -> Planned:
        station = self.station
        return plan_rebase(station.state, self.state_of(lease), self, station.objects, promised, station.clock.now)

    def revert(self, deployment: Deployment) -> Planned:
        station = self.station
        planned, gone = plan_revert(station.state, deployment, self, station.objects, station.store)
        assert gone == ()
        return planned

    def read(self, tree: str, path: str = "app.py") -> str:
        files = {e.path: e for e in load_tree(tree, self.station.objects).entries}
        entry: Any = files[path]
        return self.station.objects.get(ObjectRef(sha256=entry.sha256, size=entry.size)).decode()


def begin(station: Station, root: Path) -> Scene:
    station.genesis()
    rows = [{"name": name, "root": f"/srv/{name}"} for name in NAMES]
    station.enact_fleet({"targets": {"web": {"instances": rows, "max_unavailable": 2}}})
    return Scene(station, root)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return begin(Station(tmp_path / "station"), tmp_path)


def after_of(planned: Planned) -> str:
    ((_, after),) = planned.groups
    return after


# --- rebase ---


def test_patch_is_applied_to_what_runs_now(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    late = scene.patch(patch_line(15, "fifteen"), scene.tree({"app.py": text(l15="fifteen")}))
    scene.run_everywhere(scene.tree({"app.py": text(l5="five"), "new": ""}))
    planned = scene.rebase(late)
    assert scene.read(after_of(planned)) == text(l5="five", l15="fifteen")
    assert (planned.artifact.type, planned.paths) == ("patch", ("app.py",))


def test_patch_that_no_longer_applies_is_a_conflict(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    late = scene.patch(patch_line(15, "fifteen"), scene.tree({"app.py": text(l15="fifteen")}))
    scene.run_everywhere(scene.tree({"app.py": text(l15="XV")}))
    with refused("rebase_conflict") as caught:
        scene.rebase(late)
    assert late[0] in caught.value.message
    assert "\n" not in caught.value.message


def test_lease_that_fits_is_not_replaced_and_one_that_expired_is(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    lease = scene.content(scene.tree({"app.py": text(l5="five")}))
    with refused("still_fits"):
        scene.rebase(lease)
    # Nobody approved it in time, and it cannot be approved any more; with both keys it could still be begun.
    scene.station.clock.tick(3601)
    assert scene.rebase(lease).groups
    scene.station.clock.tick(-3601)
    scene.station.approve(lease)
    scene.station.clock.tick(3601)
    with refused("still_fits"):
        scene.rebase(lease)
    scene.station.clock.tick(3600)
    assert scene.rebase(lease).groups


def test_lease_whose_reviewer_lost_the_key_that_reviewed_it_is_replaced(scene: Scene) -> None:
    # An agent reviews a lease once, so nothing else helps it.
    scene.run_everywhere(scene.tree({"app.py": text()}))
    lease = scene.content(scene.tree({"app.py": text(l5="five")}))
    scene.station.approve(lease)
    with refused("still_fits"):
        scene.rebase(lease)
    revoke(scene.station, "cp14", scene.station.state.size)
    assert scene.rebase(lease).groups


def test_lease_that_lost_its_only_agent_s_key_is_replaced_where_no_review_is_asked_for(tmp_path: Path) -> None:
    people = {name: person for name, person in PEOPLE.items() if name != "cp18"}
    station = Station(tmp_path / "station", policy=matrix(reviews=[]), people=people)
    scene = begin(station, tmp_path)
    scene.run_everywhere(scene.tree({"app.py": text()}))
    lease = scene.content(scene.tree({"app.py": text(l5="five")}))
    station.approve(lease)
    with refused("still_fits"):
        scene.rebase(lease)
    revoke(station, "cp14", station.state.size)
    assert scene.rebase(lease).groups


def test_lease_of_another_fleet_is_replaced_for_the_instances_that_are_left(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    lease = scene.content(scene.tree({"app.py": text(l5="five")}))
    rows = [{"name": name, "root": f"/srv/{name}"} for name in ("web-02", "web-03")]
    scene.station.enact_fleet({"targets": {"web": {"instances": rows}}})
    assert list(scene.rebase(lease).groups.values()) == [["web-02"]]
    scene.station.enact_fleet({"targets": {"web": {"instances": rows[1:]}}})
    with refused("unknown_instance"):
        scene.rebase(lease)


def test_lease_whose_tree_is_there_already_needs_no_other(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    new = scene.tree({"app.py": text(l5="five")})
    lease = scene.content(new)
    scene.run_everywhere(new)
    with refused("no_change"):
        scene.rebase(lease)


def test_claimed_or_denied_lease_is_not_replaced(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    denied = scene.content(scene.tree({"app.py": text(l5="five")}))
    scene.station.say("ada", "objection", {"verb": "deny", "reason": "no"}, denied)
    with refused("lease_denied", entry=scene.station.state.size - 1):
        check_replaceable(scene.state_of(denied))
    claimed = scene.content(scene.tree({"app.py": text(l6="six")}))
    deployment = scene.claim(claimed)
    with refused("lease_consumed", entry=deployment.claim_seq):
        check_replaceable(scene.state_of(claimed))


def test_terms_are_the_old_ones_or_stricter(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    terms: dict[str, Any] = {"tiers": [1, 5, 25, 100], "bake_s": 90, "promotion": "manual", "start": "command"}
    old = scene.content(scene.tree({"app.py": text(l5="five")}), **terms)
    scene.station.clock.tick(8000)
    asked = ask_again(scene.station.state, scene.state_of(old), None, None)
    planned = scene.rebase(old)
    fields = lease_fields(asked, planned, scene.station.state, scene.station.objects, scene.station.clock.now)
    assert {name: fields[name] for name in terms} == terms
    assert asked.why.endswith(f"(replaces {old[0]})")
    assert fields["id"] != old[0]
    glass = scene.content(scene.tree({"app.py": "x"}), rule="break_glass", reason="the shop is down")
    assert ask_again(scene.station.state, scene.state_of(glass), None, None).break_glass == "the shop is down"


def test_patch_that_is_there_already_is_no_conflict(scene: Scene) -> None:
    old = scene.run_everywhere(scene.tree({"app.py": text()}))
    new = scene.tree({"app.py": text(l15="fifteen")})
    lease = scene.patch(patch_line(15, "fifteen"), new)
    scene.runs["web-02"] = new.digest
    planned = scene.rebase(lease)
    assert planned.groups == {(old.digest, new.digest): ["web-01"]}
    assert planned.settled == ("web-02",)
    scene.run_everywhere(new)
    with refused("no_change"):
        scene.rebase(lease)


# --- onto ---


def test_nothing_is_planned_onto_a_lease_whose_fleet_or_time_for_keys_is_over(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    late = scene.content(scene.tree({"app.py": "late"}))
    now = scene.station.clock.now
    with refused("base_moved") as caught:
        promised_trees(scene.station.state, scene.state_of(late), "web", now + 3601)
    assert "it could be approved until" in caught.value.message
    rows = [{"name": name, "root": f"/srv/{name}"} for name in (*NAMES, "web-03")]
    scene.station.enact_fleet({"targets": {"web": {"instances": rows}}})
    with refused("base_moved") as caught:
        promised_trees(scene.station.state, scene.state_of(late), "web", now)
    assert "it cannot be claimed any more" in caught.value.message


def test_name_that_the_fleet_gave_to_another_place_is_promised_nothing(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    one = scene.tree({"app.py": "one"})
    first = scene.content(one)
    scene.deploy(first)
    rows = [{"name": "web-01", "root": "/srv/elsewhere"}, {"name": "web-02", "root": "/srv/web-02"}]
    scene.station.enact_fleet({"targets": {"web": {"instances": rows}}})
    promised = promised_trees(scene.station.state, scene.state_of(first), "web", scene.station.clock.now)
    assert promised == {"web-02": one.digest}


def test_promise_is_the_lease_s_trees_and_those_of_what_runs_before_it(scene: Scene) -> None:
    old = scene.run_everywhere(scene.tree({"app.py": text()}))
    one, two = scene.tree({"app.py": "one"}), scene.tree({"app.py": "two"})
    first = scene.content(one)
    deployment = scene.claim(first)
    now = scene.station.clock.now
    assert promised_trees(scene.station.state, scene.state_of(first), "web", now) == dict.fromkeys(NAMES, one.digest)
    # A lease behind it that names one instance: the other one is as the first leaves it.
    scene.runs = dict.fromkeys(NAMES, one.digest)
    second = scene.content(two, ("web-02",))
    assert promised_trees(scene.station.state, scene.state_of(second), "web", now) == {
        "web-01": one.digest,
        "web-02": two.digest,
    }
    with refused("wrong_target"):
        promised_trees(scene.station.state, scene.state_of(second), "db", now)
    scene.station.command("ada", first, "abort")
    assert deployment.phase == "CLAIMED"
    with refused("base_moved"):
        promised_trees(scene.station.state, scene.state_of(first), "web", now)
    # What runs is on its way back, so the instance that the second does not name stays where it is.
    assert promised_trees(scene.station.state, scene.state_of(second), "web", now)["web-01"] == old.digest


def test_nothing_is_planned_onto_what_never_comes(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    now = scene.station.clock.now
    denied = scene.content(scene.tree({"app.py": "denied"}))
    scene.station.say("ada", "objection", {"verb": "deny", "reason": "no"}, denied)
    with refused("base_moved") as caught:
        promised_trees(scene.station.state, scene.state_of(denied), "web", now)
    assert "it was denied in entry" in caught.value.message
    late = scene.content(scene.tree({"app.py": "late"}))
    with refused("base_moved"):
        promised_trees(scene.station.state, scene.state_of(late), "web", now + 100_000)
    done = scene.content(scene.tree({"app.py": "done"}))
    scene.deploy(done)
    assert promised_trees(scene.station.state, scene.state_of(done), "web", now)
    over = scene.content(scene.tree({"app.py": "over"}))
    scene.deploy(over)
    with refused("base_moved") as caught:
        promised_trees(scene.station.state, scene.state_of(done), "web", now)
    assert f"{over[0]} changed web-01 after it" in caught.value.message


def test_busy_target_is_waited_for_or_followed(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    late = scene.patch(patch_line(15, "fifteen"), scene.tree({"app.py": text(l15="fifteen")}))
    first = scene.content(scene.tree({"app.py": text(l5="five")}))
    scene.claim(first)
    with refused("target_busy") as caught:
        scene.rebase(late)
    assert caught.value.hint.endswith(f"calyx lease rebase {late[0]} --onto {first[0]}")
    promised = promised_trees(scene.station.state, scene.state_of(first), "web", scene.station.clock.now)
    assert scene.read(after_of(scene.rebase(late, promised))) == text(l5="five", l15="fifteen")


# --- revert ---


def later(scene: Scene, files: Mapping[str, str | bytes]) -> Lease:
    lease = scene.content(scene.tree(files))
    scene.deploy(lease)
    return lease


def check(scene: Scene, deployment: Deployment) -> None:
    check_revertible(scene.station.state, deployment, scene.station.clock.now)


def test_change_is_undone_on_top_of_what_came_later(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text(), "VERSION": "1"}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five"), "VERSION": "1"})))
    with refused("not_superseded") as caught:
        check(scene, first)
    assert caught.value.hint == f"calyx rollback {first.lease.id}"
    later(scene, {"app.py": text(l5="five", l15="fifteen"), "VERSION": "2"})
    check(scene, first)
    planned = scene.revert(first)
    assert scene.read(after_of(planned)) == text(l15="fifteen")
    assert scene.read(after_of(planned), "VERSION") == "2"
    assert (planned.artifact.type, planned.paths) == ("patch", ("app.py",))
    # The evidence of the claim, and nothing else, is what leads there.
    kept: Any = read_entry(scene.station.state, scene.station.store, first.claim_seq)[1].predicate["reverse"]
    way = scene.station.objects.get(ObjectRef.from_json(kept))
    assert scene.station.objects.get(ObjectRef(sha256=planned.artifact.sha256, size=planned.artifact.size)) in way


def test_change_that_came_later_in_the_same_place_is_a_conflict(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five")})))
    later(scene, {"app.py": text(l5="FIVE")})
    with refused("revert_conflict", instance="web-01") as caught:
        scene.revert(first)
    assert "\n" not in caught.value.message


def test_first_content_and_a_claim_without_evidence_have_no_way_back(scene: Scene) -> None:
    first = scene.deploy(scene.content(scene.tree({"app.py": text()})))
    blind = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five")})), reverse=False)
    later(scene, {"app.py": text(l5="five", l15="fifteen")})
    with refused("no_way_back") as caught:
        scene.revert(first)
    assert "nothing was there before" in caught.value.message
    with refused("no_way_back", entry=blind.claim_seq):
        scene.revert(blind)


def test_evidence_that_does_not_lead_back_is_not_followed(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    lease = scene.content(scene.tree({"app.py": text(l5="five")}))
    pair = (scene.state_of(lease).before["web-01"], scene.state_of(lease).after["web-01"])
    # An executor that was taken over puts a change of its own into what it calls the way back.
    way = patch_line(15, "evil")
    framed = b'Calyx-Directories: {"make":[],"remove":[]}\n' + way
    head = format_json({"after": pair[1], "before": pair[0], "size": len(framed)})
    forged = scene.station.objects.put(b"Calyx-Reverse: " + head + b"\n" + framed)
    scene.station.approve(lease)
    scene.station.take_term()
    scene.station.claim(lease, reverse=forged.to_json())
    scene.station.baseline(lease)
    scene.station.event("cp20", lease, "STARTED")
    scene.station.complete(lease)
    scene.run_everywhere(load_tree(pair[1], scene.station.objects))
    later(scene, {"app.py": text(l5="five"), "new": ""})
    with refused("patch_not_reversible"):
        scene.revert(scene.station.state.deployments[lease[1]])


def test_instances_that_came_from_different_trees_go_back_by_one_patch_or_not_at_all(scene: Scene) -> None:
    one, two = scene.tree({"app.py": text(), "id": "1"}), scene.tree({"app.py": text(), "id": "2"})
    scene.runs = {"web-01": one.digest, "web-02": two.digest}
    afters = [scene.tree({"app.py": text(l5="five"), "id": name}) for name in "12"]
    ref = scene.station.objects.put(patch_line(5, "five"))
    artifact = {"type": "patch", "sha256": ref.sha256, "size": ref.size}
    pairs = {(one.digest, afters[0].digest): ["web-01"], (two.digest, afters[1].digest): ["web-02"]}
    same = scene.deploy(scene.lease(artifact, pairs))
    whole = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five"), "id": "3"})))
    planned = scene.revert(same)
    assert [scene.read(after) for _, after in planned.groups] == [text()]
    # Each came from another tree to the same one: no one patch, and no one tree, leads back.
    later(scene, {"app.py": text(l5="five", l15="fifteen"), "id": "3"})
    with refused("revert_differs"):
        scene.revert(whole)


def test_directories_that_no_patch_names_go_back_as_a_tree(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text(), "empty/": ""}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text()})))
    later(scene, {"app.py": text(l15="fifteen")})
    planned = scene.revert(first)
    assert (planned.artifact.type, planned.paths) == ("directory", ("empty/",))
    assert scene.read(after_of(planned)) == text(l15="fifteen")


def test_running_deployment_is_rolled_back_and_not_undone(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    running = scene.claim(scene.content(scene.tree({"app.py": text(l5="five")})))
    with refused("not_superseded"):
        check(scene, running)


def test_retention_that_is_over_leaves_the_undoing(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five")})))
    terms = scene.station.state.policies[first.lease.policy].deploy_production
    scene.station.clock.tick(terms.retention_s + 1)
    check(scene, first)
    assert scene.read(after_of(scene.revert(first))) == text()


def test_nothing_is_undone_while_another_deployment_is_under_way_there(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five")})))
    terms = scene.station.state.policies[first.lease.policy].deploy_production
    scene.station.clock.tick(terms.retention_s + 1)
    running = scene.claim(scene.content(scene.tree({"app.py": text(l5="five", l15="fifteen")})))
    with refused("target_busy", entry=running.claim_seq):
        check(scene, first)


def test_instance_that_has_its_old_tree_already_is_left_out_of_an_undoing(scene: Scene) -> None:
    old = scene.run_everywhere(scene.tree({"app.py": text(), "VERSION": "1"}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five"), "VERSION": "1"})))
    later(scene, {"app.py": text(l5="five"), "VERSION": "2"})
    scene.runs["web-02"] = old.digest
    planned = scene.revert(first)
    assert (list(planned.groups.values()), planned.settled) == ([["web-01"]], ("web-02",))
    assert (planned.artifact.type, scene.read(after_of(planned))) == ("patch", text())
    scene.run_everywhere(old)
    with refused("no_change"):
        scene.revert(first)


def test_instances_whose_names_were_exchanged_are_undone_where_they_are(scene: Scene) -> None:
    scene.run_everywhere(scene.tree({"app.py": text()}))
    first = scene.deploy(scene.content(scene.tree({"app.py": text(l5="five")}), ("web-01",)))
    later(scene, {"app.py": text(l5="five", l15="fifteen")})
    rows = [{"name": "web-02", "root": "/srv/web-01"}, {"name": "web-01", "root": "/srv/web-02"}]
    scene.station.enact_fleet({"targets": {"web": {"instances": rows}}})
    planned = scene.revert(first)
    assert list(planned.groups.values()) == [["web-02"]]
    assert scene.read(after_of(planned)) == text(l15="fifteen")
