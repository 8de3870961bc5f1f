"""A refusal names the entry that is in the way, for a program too and not only in its words."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from station import Station, new_station

POLICIES = Path(__file__).parents[3] / "policies"
REFUSALS = {"refuse": 1, "LawRefused": 1, "fail_step": 2}
"""Function -> place of its message."""


def refusals() -> Iterator[tuple[str, str, set[str]]]:
    """Where each refusal of the law is, its message's source, and its keywords."""
    for path in (POLICIES / "law").glob("*.py"):
        source = path.read_text("utf-8")
        for function in ast.walk(ast.parse(source)):
            if not isinstance(function, ast.FunctionDef):
                continue
            texts = {
                target.id: ast.unparse(node.value)
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in REFUSALS:
                    message = call.args[REFUSALS[call.func.id]]
                    text = texts.get(message.id, "") if isinstance(message, ast.Name) else ast.unparse(message)
                    yield f"{path.name}:{call.lineno}", text, {str(word.arg) for word in call.keywords}


def test_refusal_whose_words_name_an_entry_carries_it() -> None:
    found = list(refusals())
    assert len(found) > 100
    silent = {
        place
        for place, text, words in found
        if "entry {" in text and "entry" not in words and "case.seq" not in text and "entry.seq" not in text
    }
    # `counted[0]` and `counted[1]` are two entries, and a head is a prefix.
    allowed = {place for place, text, _ in found if "the entries that count" in text}
    assert silent - allowed == set()


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


LEASE = "LEASE-20260105-090000"
OTHER = "LEASE-20260105-090001"


def second_review(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    seq = station.review("cp14", lease, "fail").seq
    return "already_reviewed", seq, lambda: station.review("cp14", lease)


def vote_on_a_failed_review(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    review = station.review("cp14", lease, "fail")
    return "review_failed", review.seq, lambda: station.vote("cp14", lease, "sentinel", review.digest)


def claim_after_a_failed_review(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.vote("ada", lease, "approver")
    station.review("cp18", lease)
    seq = station.review("cp14", lease, "fail").seq
    station.take_term()
    return "review_failed", seq, lambda: station.claim(lease)


def second_claim(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    seq = station.claim(lease).seq
    return "lease_consumed", seq, lambda: station.claim(lease)


def claim_beside_a_live_one(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease, other = station.propose(), station.propose(OTHER)
    station.approve(lease)
    station.approve(other)
    station.take_term()
    seq = station.claim(lease).seq
    return "target_busy", seq, lambda: station.claim(other)


def claim_of_a_denied_lease(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    seq = station.say("ben", "objection", {"verb": "deny", "reason": ""}, lease).seq
    return "lease_denied", seq, lambda: station.claim(lease)


def second_lease_of_a_name(station: Station) -> tuple[str, int, Callable[[], Any]]:
    seq = station.state.leases[station.propose()[1]].seq
    fields = station.lease_fields(LEASE, "INT-20260105-090000")
    return "id_taken", seq, lambda: station.say("cbo", "lease", fields)


def lease_on_an_old_fleet(station: Station) -> tuple[str, int, Callable[[], Any]]:
    old = station.state.fleet_digest
    station.enact_fleet({"targets": {"web": {"instances": [{"name": "web-01", "root": "/srv/a"}]}}})
    return "stale_fleet", station.state.size - 1, lambda: station.propose(fleet=old)


def second_vote(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    seq = station.vote("ada", lease, "approver").seq
    return "already_cosigned", seq, lambda: station.vote("ada", lease, "approver")


def step_forward_under_a_pause(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.begin(lease)
    seq = station.command("ada", lease, "pause").seq
    return "paused", seq, lambda: station.event("cp20", lease, "TIER_INTENT", tier=5)


def step_forward_after_an_abort(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.begin(lease)
    seq = station.command("ada", lease, "abort").seq
    return "stopped", seq, lambda: station.event("cp20", lease, "TIER_INTENT", tier=5)


def rollback_after_the_retention(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.begin(lease)
    seq = station.complete(lease).seq
    station.clock.tick(8 * 86_400)
    return "retention_over", seq, lambda: station.command("ada", lease, "rollback")


def order_for_a_state_that_is_past(station: Station) -> tuple[str, int, Callable[[], Any]]:
    lease = station.propose()
    station.begin(lease)
    leaf = station.state.deployments[lease[1]].state_leaf
    seq = station.command("ada", lease, "pause").seq
    return "stale_command", seq, lambda: station.command("ada", lease, "resume", state=leaf)


CASES = [
    second_review,
    vote_on_a_failed_review,
    claim_after_a_failed_review,
    second_claim,
    claim_beside_a_live_one,
    claim_of_a_denied_lease,
    second_lease_of_a_name,
    lease_on_an_old_fleet,
    second_vote,
    step_forward_under_a_pause,
    step_forward_after_an_abort,
    rollback_after_the_retention,
    order_for_a_state_that_is_past,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_refusal_names_the_entry_that_is_in_the_way(
    station: Station, case: Callable[[Station], tuple[str, int, Callable[[], Any]]]
) -> None:
    code, seq, attempt = case(station)
    with refused(code, entry=seq):
        attempt()
