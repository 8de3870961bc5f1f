"""Cohorts: computed by hand once, so that the order cannot change unseen."""

from __future__ import annotations

import hmac
from hashlib import sha256

from policies.law.cohort import order_instances, plan_cohorts

LEASE, LEAF = "11" * 32, "22" * 32


def test_order_is_the_documented_one() -> None:
    names = [f"web-{n}" for n in range(7)]
    key = sha256(b"calyx-cohort-v1" + bytes.fromhex(LEASE + LEAF)).digest()
    by_hand = sorted(names, key=lambda name: hmac.new(key, name.encode(), sha256).digest())
    assert order_instances(LEASE, LEAF, names, set()) == tuple(by_hand)
    assert by_hand == ["web-5", "web-1", "web-0", "web-2", "web-3", "web-6", "web-4"]


def test_another_last_approval_gives_another_order() -> None:
    names = [f"web-{n}" for n in range(20)]
    orders = {order_instances(LEASE, sha256(bytes([n])).hexdigest(), names, set()) for n in range(20)}
    assert len(orders) == 20


def test_pinned_canaries_come_first() -> None:
    names = [f"web-{n}" for n in range(7)]
    order = order_instances(LEASE, LEAF, names, {"web-2", "web-3", "elsewhere"})
    assert order[:2] == ("web-2", "web-3")
    assert sorted(order) == names


def test_small_fleets_merge_tiers() -> None:
    assert plan_cohorts([5, 25, 100], ["a"]) == {100: ("a",)}
    assert plan_cohorts([5, 25, 100], ["a", "b"]) == {25: ("a",), 100: ("b",)}
    assert plan_cohorts([5, 25, 100], list("abcd")) == {25: ("a",), 100: ("b", "c", "d")}
    assert [len(each) for each in plan_cohorts([5, 25, 100], list(range(20))).values()] == [1, 4, 15]  # type: ignore[arg-type]  # only counted
