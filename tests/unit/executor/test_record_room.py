"""Long lists and many groups: what the writers make of them fits into a record, and the law takes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from refusal import refused
from station import Station, fleet, matrix, tree_digest

from executor.proposals.propose import Asked, Planned, lease_fields
from executor.rollout.claim import claim_fields
from ledger.record import make_record
from policies.kinds import MAX_GROUPS, Artifact
from policies.law.two_key import VerifiedLease, check_two_key
from policies.names import store_list
from policies.submitter import Draft

NAME = "LEASE-20260105-090000"
TIERS = [1, 5, 25, 50, 100]
AFTER = tree_digest("v2")
SUBJECT = (NAME, "ab" * 32)


def names_of(count: int) -> list[str]:
    return [f"{n:06}".ljust(64, "x") for n in range(count)]


def spread(names: list[str], groups: int) -> dict[tuple[str, str], list[str]]:
    """Names dealt out to as many groups, each on a tree of its own before."""
    return {(f"{n:064x}", AFTER): names[n::groups] for n in range(groups)}


def station_of(root: Path, count: int) -> Station:
    station = Station(root, policy=matrix(tiers=TIERS))
    station.genesis()
    body = fleet(0)
    body["targets"]["web"]["instances"] = [{"name": name, "root": f"/srv/{name}"} for name in names_of(count)]
    station.enact_fleet(body)
    return station


def fields_of(station: Station, groups: dict[tuple[str, str], list[str]], paths: tuple[str, ...]) -> dict[str, Any]:
    """The lease that `calyx propose` makes of a change."""
    wish = Asked(target="web", what="a new version", why="a test", lease_id=NAME)
    ref = station.put_tree("v2")
    planned = Planned(Artifact(type="directory", sha256=ref.sha256, size=ref.size), groups, paths, ())
    return lease_fields(wish, planned, station.state, station.objects, station.clock.now)


def propose(station: Station, groups: int, paths: tuple[str, ...] = ("app.py",)) -> tuple[str, str]:
    assert station.state.fleet is not None
    names = [instance.name for instance in station.state.fleet.targets["web"].instances]
    fields = fields_of(station, spread(names, groups), paths)
    station.say("cbo", "intent", {"id": fields["intent"], "target": "web", "what": "new", "why": "a test"})
    return NAME, station.say("cbo", "lease", fields).digest


def test_lease_with_256_long_paths_is_written(tmp_path: Path) -> None:
    station = station_of(tmp_path, 20)
    paths = tuple(f"static/{n:03}".ljust(200, "x") for n in range(256))
    _, digest = propose(station, 1, paths)
    assert station.state.leases[digest].paths == paths


@pytest.mark.parametrize("groups", [1, MAX_GROUPS])
def test_lease_and_claim_over_many_long_names_are_written(tmp_path: Path, groups: int) -> None:
    station = station_of(tmp_path, 1_200)
    lease = propose(station, groups)
    station.approve(lease)
    station.take_term()
    verified = check_two_key(station.state, lease[1], station.clock.now)
    assert len(verified.cohorts) == len(TIERS)
    station.say("cp20", "claim", claim_fields(verified, 1, station.objects), lease)
    assert len(station.state.deployments[lease[1]].before) == 1_200


def test_lease_with_more_groups_is_refused(tmp_path: Path) -> None:
    station = station_of(tmp_path, 200)
    with refused("bad_format"):
        propose(station, MAX_GROUPS + 1)


def test_lease_and_claim_over_100_000_instances_fit_their_records(tmp_path: Path) -> None:
    station = station_of(tmp_path, 1)
    names = names_of(100_000)
    groups = spread(names, MAX_GROUPS)
    verified = SimpleNamespace(
        lease=SimpleNamespace(before={name: tree for (tree, _), group in groups.items() for name in group}),
        counted=(SimpleNamespace(seq=5), SimpleNamespace(seq=6)),
        cohorts={tier: tuple(names[n::5]) for n, tier in enumerate(TIERS)},
    )
    claim = claim_fields(cast(VerifiedLease, verified), 1, station.objects)
    drafts = [Draft("lease", fields_of(station, groups, ("app.py",))), Draft("claim", claim, SUBJECT)]
    for who, draft in zip(("cbo", "cp20"), drafts, strict=True):
        make_record(9, "ab" * 32, station.clock.now, station.sign(who, draft))


def test_list_is_inline_only_within_its_share(tmp_path: Path) -> None:
    objects = station_of(tmp_path, 1).objects
    # ["aa…a","…"] of 126 names of 62 letters: 126 * 65 + 1 = 8,191 bytes.
    names = ["a" * 62] * 126
    assert isinstance(store_list(names, objects), tuple)
    assert not isinstance(store_list([*names[1:], "a" * 64], objects), tuple)
    assert not isinstance(store_list(names, objects, share=2), tuple)
    assert isinstance(store_list(names[:63], objects, share=2), tuple)
    assert not isinstance(store_list(["a"] * 257, objects), tuple)
