"""Attacks on terms and claims: who executes, and what a claim says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from station import Station, fleet, new_station, tree_digest

from policies.fold.deployment import Phase
from policies.replay import Replay
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def ready(station: Station) -> tuple[str, str]:
    """A lease that can be claimed."""
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    return lease


@pytest.mark.parametrize("who", ["ada", "cbo", "cp14", "cp19"])
def test_term_or_claim_by_someone_who_is_no_executor(station: Station, ready: tuple[str, str], who: str) -> None:
    with refused("wrong_kind"):
        station.say(who, "term", {"epoch": 2, "reason": "mine"})
    with refused("wrong_kind"):
        station.claim(ready, who=who)


@pytest.mark.parametrize("epoch", [0, 1, 3, 2**53 - 1])
def test_term_with_another_epoch_than_the_next(station: Station, ready: tuple[str, str], epoch: int) -> None:
    with refused("wrong_epoch"):
        station.say("cp20", "term", {"epoch": epoch, "reason": "jump"})


def test_term_and_claim_on_an_older_head(station: Station, ready: tuple[str, str]) -> None:
    term = station.sign("cp20", Draft("term", {"epoch": 2, "reason": "restart"}))
    claim = station.sign("cp20", Draft("claim", station.claim_fields(ready), ready))
    station.say("ada", "message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    for envelope in (term, claim):
        with refused("head_moved"):
            station.append(envelope)


def test_claim_before_any_term(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    with refused("fenced"):
        station.claim(lease)


def test_executor_of_an_older_term_is_fenced(station: Station, ready: tuple[str, str]) -> None:
    station.take_term("cp20b")
    for epoch in (1, 2, 3):
        with refused("fenced"):
            station.claim(ready, epoch=epoch)
    station.claim(ready, who="cp20b")
    detail = {"type": "STARTED"}
    for epoch in (1, 2, 3):
        with refused("fenced"):
            station.say("cp20", "event", {"epoch": epoch, "detail": detail}, ready)
    with refused("fenced"):
        station.say("cp20b", "event", {"epoch": 1, "detail": detail}, ready)
    station.event("cp20b", ready, "STARTED")


def test_claim_taken_up_by_another_executor(station: Station, ready: tuple[str, str]) -> None:
    station.claim(ready)
    station.take_term("cp20b")
    station.event("cp20b", ready, "STARTED")


def wrong_counts(fields: dict[str, Any]) -> list[list[int]]:
    first, second = fields["counted"]
    return [[second, first], [first, first], [first, second + 1], [first - 1, second]]


def test_claim_that_counts_other_cosignatures(station: Station, ready: tuple[str, str]) -> None:
    for counted in wrong_counts(station.claim_fields(ready)):
        with refused("wrong_count"):
            station.claim(ready, counted=counted)
    with refused("bad_format"):
        station.claim(ready, counted=[1])


def test_claim_that_counts_a_later_pair(station: Station, ready: tuple[str, str]) -> None:
    later = station.vote("ben", ready, "approver")
    counted = station.claim_fields(ready)["counted"]
    with refused("wrong_count"):
        station.claim(ready, counted=[counted[1], later.seq])


def test_claim_with_chosen_canaries(station: Station, ready: tuple[str, str]) -> None:
    cohorts = station.claim_fields(ready)["cohorts"]
    first, last = cohorts[0]["instances"], cohorts[-1]["instances"]
    swapped = [
        {**cohorts[0], "instances": [last[0]]},
        *cohorts[1:-1],
        {**cohorts[-1], "instances": [first[0], *last[1:]]},
    ]
    reordered = [*cohorts[:-1], {**cohorts[-1], "instances": sorted(last)}]
    for stated in (swapped, reordered, cohorts[1:], [*cohorts, cohorts[-1]], list(reversed(cohorts))):
        with refused("wrong_cohorts"):
            station.claim(ready, cohorts=stated)


def test_claim_over_trees_that_moved(station: Station, ready: tuple[str, str]) -> None:
    seen = station.claim_fields(ready)["seen"]
    names = seen[0]["instances"]
    moved = [{**seen[0], "instances": names[1:]}, {"tree": tree_digest("v9"), "instances": names[:1]}]
    more = [*seen, {"tree": tree_digest("v1"), "instances": ["web-99"]}]
    for stated in (moved, [{**seen[0], "instances": names[1:]}], more):
        with refused("base_moved"):
            station.claim(ready, seen=stated)
    with refused("bad_claim"):
        station.claim(ready, seen=[*seen, {"tree": tree_digest("v9"), "instances": names[:1]}])


def test_second_claim_of_a_lease(station: Station, ready: tuple[str, str]) -> None:
    fields = station.claim_fields(ready)
    station.say("cp20", "claim", fields, ready)
    with refused("lease_consumed", step=8):
        station.say("cp20", "claim", fields, ready)
    station.event("cp20", ready, "ABORTED", cause="test", text="")
    # One claim for ever, also after it came to nothing and under another executor.
    station.take_term("cp20b")
    with refused("lease_consumed", step=8):
        station.say("cp20b", "claim", {**fields, "epoch": 2}, ready)


def test_claim_while_the_target_has_a_live_deployment(station: Station, ready: tuple[str, str]) -> None:
    other = station.propose("LEASE-20260105-090001")
    station.approve(other)
    fields = station.claim_fields(other)
    station.claim(ready)
    with refused("target_busy", step=8):
        station.say("cp20", "claim", fields, other)
    station.event("cp20", ready, "ABORTED", cause="test", text="")
    station.say("cp20", "claim", fields, other)


def test_two_executors_claim_at_once_and_one_wins(station: Station, ready: tuple[str, str]) -> None:
    other = station.propose("LEASE-20260105-090001")
    station.approve(other)
    first, second = station.new_registrar(), station.new_registrar()
    for registrar in (first, second):
        registrar.sync()
    # Both have read the same head and decided to claim; each then goes through its own registrar.
    fields = station.claim_fields(ready), station.claim_fields(other)
    first.submit(station.signer("cp20"), Draft("claim", fields[0], ready))
    with refused("target_busy"):
        second.submit(station.signer("cp20"), Draft("claim", fields[1], other))
    with refused("lease_consumed"):
        second.submit(station.signer("cp20"), Draft("claim", fields[0], ready))
    assert list(station.state.deployments) == [ready[1]]


def test_claim_signed_by_a_registrar_that_had_not_read_on(station: Station, ready: tuple[str, str]) -> None:
    slow = station.new_registrar()
    slow.sync()
    draft = Draft("claim", station.claim_fields(ready), ready)
    stale = slow.draft_statement("cp20", draft)
    station.claim(ready)
    with refused("lease_consumed"):
        slow.submit(station.signer("cp20"), draft)
    assert stale.head.size < station.store.head().size


def test_claim_of_what_is_no_lease(station: Station, ready: tuple[str, str]) -> None:
    fields = station.claim_fields(ready)
    with refused("unknown_subject"):
        station.say("cp20", "claim", fields, ("LEASE-20260105-090000", "ab" * 32))


def test_claim_and_rollout_of_ten_thousand_instances(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    body = fleet()
    body["targets"]["web"]["instances"] = [{"name": f"web-{n}", "root": f"/srv/web-{n}"} for n in range(10_000)]
    station.enact_fleet(body)
    lease = station.propose()
    station.begin(lease)
    deployment = station.state.deployments[lease[1]]
    assert [len(names) for names in deployment.cohorts.values()] == [500, 2000, 7500]
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    drafts = [
        Draft(
            "event",
            {
                "epoch": 1,
                "detail": {"type": "INSTANCE_APPLIED", "tier": 5, "instance": name, "tree": deployment.after[name]},
            },
            lease,
        )
        for name in deployment.cohorts[5]
    ]
    station.registrar.submit_all(station.signer("cp20"), drafts)
    station.event("cp20", lease, "TIER_APPLIED", tier=5)
    replayed = Replay(station.store, station.objects, None).sync()
    assert replayed.deployments[lease[1]].phase is Phase.DEPLOYING
    assert replayed == station.state
