"""Ledgers that both verifiers must accept: what no rule asks for, and ids and keys in another spelling."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from forging import CAST, KEYS, LOG_KEY, Forge, digest_of, json_object, key_line, person, policy, trust
from reject_edges import _in_capitals, _plain, _vote_in_capitals
from reject_stories import STORIES, deploy, fleet_body, gate_values, halt, sample_fields, verdict
from verdicts import agree, of_forge

from keys.canonical import format_json


def at(moment: str, story: str = "main") -> Forge:
    return STORIES[story]().moments[moment].fork()


# Spellings.


def test_both_find_an_agents_own_review_however_a_root_spells_it() -> None:
    f = at("term")
    f.enact("policy", policy(reviews=[]))
    first, second = f.lease(1), f.lease(2)
    review = f.review("cp14", first)
    f.enact("trust", _in_capitals("dan", "cp14"))
    f.say("cp14", "cosignature", {"role": "sentinel", "review": review}, first, by="CP14")
    f.vote("ben", first, "approver")
    _vote_in_capitals(f, second)
    f.claim(first)
    agree(of_forge(f))


def test_both_count_a_key_that_is_of_another_type_since() -> None:
    f = at("lease")
    f.vote("tok", f.it, "approver")
    f.vote("cp14", f.it, "sentinel", f.review("cp14", f.it))
    f.enact("trust", _plain("tok", ["approver"]))
    f.claim(f.it)
    agree(of_forge(f))


def test_both_find_an_intent_by_an_id_in_small_letters() -> None:
    f = at("fleet")
    f.intent("INT-99999999-999999-999999")
    f.say("cbo", "lease", f.lease_fields(1, id="LEASE-99999999-999999-999999", intent="int-99999999-999999-999999"))
    agree(of_forge(f))


# Trust roots, and genesis.


def test_both_accept_a_ledger_that_continues_one_of_one_entry() -> None:
    f = at("nothing", "small")
    before = {"ledger": digest_of(1), "head": {"size": 1, "hash": digest_of(1)}}
    root = trust("ada", thresholds={"governors": 1, "operators": 1})
    f.say("ada", "genesis", f.genesis_fields(continues=before, trust=root))
    agree(of_forge(f))


def test_both_let_a_compromise_stay_where_it_is_or_move_to_an_earlier_entry() -> None:
    f = at("fleet")
    for position in (2, 2, 1):
        lost = {"key": key_line("spare"), "position": position}
        f.enact("trust", trust(compromised=[lost]))
        f.now += 1
    agree(of_forge(f))


def test_both_ignore_signatures_of_another_name_or_key_id_on_a_checkpoint() -> None:
    ledger = of_forge(at("fleet"))
    other_id = base64.b64encode(bytes(68)).decode()
    own_id = base64.b64encode(LOG_KEY.vkey.key_id + bytes(64)).decode()
    witness = base64.b64encode(bytes(5)).decode()
    more = (
        f"\u2014 {LOG_KEY.origin} {other_id}\n\u2014 witness.example/log-00000000 {own_id}\n\u2014 witness {witness}\n"
    )
    agree(replace(ledger, note=ledger.note + more.encode()))


@pytest.mark.parametrize(("governors", "operators"), [(1, 2), (2, 1)])
def test_both_ask_for_as_many_of_a_role_as_the_root_does(governors: int, operators: int) -> None:
    f = at("fleet")
    f.enact("trust", trust(thresholds={"governors": governors, "operators": operators}))
    for _ in range(2):
        f.now += 1
        f.enact("policy", policy(), ("ada", "ben")[:governors])
        f.enact("fleet", f.fleet_object(fleet_body(5)), ("ada", "ben")[:operators])
    agree(of_forge(f))


# Leases and claims.


def test_both_accept_a_lease_of_two_keys_without_a_reason() -> None:
    f = at("term")
    for number, reason in enumerate((None, ""), 1):
        f.lease(number, reason=reason)
    agree(of_forge(f))


def test_both_ask_nothing_of_two_keys_that_glass_is_asked_for() -> None:
    """The policy disables breaking glass, and asks for a token there."""
    f = at("term")
    glass = {"enabled": False, "max_validity_s": 0, "review_within_s": 0, "user_verification": True}
    f.enact("policy", policy(break_glass=glass))
    it = f.lease(1)
    f.approve(it)
    f.claim(it)
    agree(of_forge(f))


def test_both_let_glass_be_broken_while_a_review_is_overdue() -> None:
    f = at("claimed", "glass")
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")
    f.now += 86_401
    it = f.lease(2, rule="break_glass")
    f.vote("ada", it, "approver")
    f.vote("ben", it, "approver")
    f.claim(it)
    agree(of_forge(f))


def test_both_let_an_agent_with_a_new_key_review_again_what_is_owed() -> None:
    """Its key is another one than that of its review, which so did not count at the claim."""
    f = at("approved", "glass")
    f.review("cp14", f.it)
    fresh = [{"key": key_line("spare"), "user_verification": False}]
    f.enact("trust", trust(principals=[person(n, keys=fresh) if n == "cp14" else person(n) for n in CAST]))
    f.claim(f.it)
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    f.say("cp14", "review", fields, f.it, key=KEYS["spare"])
    agree(of_forge(f))


@pytest.mark.parametrize(
    "changes", [{"roles": []}, {"keys": [{"key": key_line("spare"), "user_verification": False}]}], ids=["role", "key"]
)
def test_both_overlook_a_failed_review_by_a_key_that_is_no_sentinels_any_more(changes: dict[str, Any]) -> None:
    f = at("approved")
    f.review("cp14b", f.it, "fail")
    f.enact("trust", trust(principals=[person(n, **changes) if n == "cp14b" else person(n) for n in CAST]))
    f.claim(f.it)
    agree(of_forge(f))


def test_both_let_whoever_may_cosign_a_lease_withdraw() -> None:
    f = at("lease")
    for who in ("tok", "cp14", "cp18"):
        f.say(who, "objection", {"verb": "withdraw", "reason": ""}, f.it)
    agree(of_forge(f))


def test_both_let_leases_and_instances_name_hooks_of_the_policy() -> None:
    f = at("genesis")
    probe = {"url": None, "status": 200, "hook": "drain", "timeout_s": 5}
    f.enact("fleet", f.fleet_object(fleet_body(4, probe=probe, hooks={"drain": "drain", "undrain": "drain"})))
    f.term()
    it = f.lease(1, hooks={"drain": "drain", "undrain": "drain"})
    f.approve(it)
    f.claim(it)
    agree(of_forge(f))


def test_both_count_two_keys_when_the_proposer_is_gone() -> None:
    f = at("approved")
    f.enact("trust", trust(principals=[person(n) for n in CAST if n != "cbo"]))
    f.claim(f.it)
    agree(of_forge(f))


def test_both_accept_a_tree_of_64_steps() -> None:
    f = at("fleet")
    rows: list[Any] = [["/".join(["a"] * steps), "dir"] for steps in range(1, 65)]
    tree = json_object(f.objects.put(format_json(["calyx-tree-v1", *rows])).to_json())
    change = {"before": "absent", "after": tree["sha256"], "instances": ["web-01"]}
    f.lease(1, artifact={"type": "directory", **tree}, changes=[change])
    agree(of_forge(f))


# Deployments.


def test_both_go_on_where_what_is_compromised_was_not_counted() -> None:
    """A key whose cosignature was one too many, and one from an entry after its cosignature."""
    f = at("approved")
    f.vote("tok", f.it, "approver")
    f.claim(f.it)
    f.event("cp19", f.it, "BASELINE", values=gate_values())
    people = [person(n) for n in CAST if n not in {"tok", "cp14"}]
    lost = [{"key": key_line(who), "position": seq} for who, seq in (("tok", 2), ("cp14", f.head.size))]
    f.enact("trust", trust(principals=people, compromised=lost))
    f.event("cp20", f.it, "STARTED")
    f.event("cp20", f.it, "TIER_INTENT", tier=25)
    agree(of_forge(f))


def test_both_take_orders_of_an_approver_and_of_an_operator() -> None:
    """And an order to go on takes back one to pause that nobody followed yet."""
    f = at("started")
    f.enact("trust", trust(principals=[person(n, roles=["operator"]) if n == "tok" else person(n) for n in CAST]))
    f.command("dan", f.it, "pause")
    f.command("tok", f.it, "resume")
    f.event("cp20", f.it, "TIER_INTENT", tier=25)
    agree(of_forge(f))


def _rollback_fails(f: Forge) -> None:
    f.event("cp20", f.it, "ROLLBACK_STARTED", cause="gate", command=None)
    left = sorted(f.state.deployments[f.it[1]].intended, reverse=True)
    f.event("cp20", f.it, "ROLLBACK_FAILED", instances=left, text="")


def test_both_let_a_failed_rollback_be_tried_again_whenever() -> None:
    """Of one that was never completed, and of one that was, long after its retention."""
    halted, completed = at("last"), at("ordered")
    halt(halted, halted.it)
    for f in (halted, completed):
        _rollback_fails(f)
        f.now += 30 * 86_400
        f.command("ben", f.it, "rollback")
        f.event("cp20", f.it, "ROLLBACK_STARTED", cause="hand", command=None)
        agree(of_forge(f))


@pytest.mark.parametrize("evidence", ["nothing", "newest", "breach", "order"])
def test_both_let_a_deployment_be_halted_on_any_evidence(evidence: str) -> None:
    f = at("healthy")
    breach = verdict(f, f.it, 2, "breach")
    verdict(f, f.it, 2, "abort")
    newest = verdict(f, f.it, 2, "inconclusive")
    order = f.command("ada", f.it, "abort")
    digest = {"nothing": None, "newest": newest[1], "breach": breach[1], "order": order[1]}[evidence]
    f.event("cp20", f.it, "HALTED", cause="gate", gate=None, evidence=digest, text="")
    agree(of_forge(f))


def test_both_accept_a_sample_one_second_early_and_a_verdict_on_none() -> None:
    f = at("baking")
    missing: dict[str, Any] = {"tier": 25, "n": 0, "verdict": "missing", "gate": None, "text": ""}
    f.event("cp19", f.it, "VERDICT", **missing)
    f.now += 14
    f.event("cp19", f.it, "SAMPLE", **sample_fields(f, f.it, 1))
    f.now += 15
    f.event("cp19", f.it, "SAMPLE", **{**sample_fields(f, f.it, 2), "values": gate_values(None)})
    agree(of_forge(f))


def test_both_take_an_order_to_promote_when_a_verdict_was_missing_on_the_tier_before() -> None:
    """The policy lets nobody skip a bake, and this order skips none."""
    f = at("promoted")
    verdict(f, f.it, 2, "missing")
    deploy(f, f.it)
    f.command("ada", f.it, "promote")
    agree(of_forge(f))


def test_both_accept_a_baseline_where_one_of_two_was_absent() -> None:
    f = at("term")
    groups = [
        {"before": before, "after": digest_of(2), "instances": [name]}
        for before, name in (("absent", "web-01"), (digest_of(1), "web-02"))
    ]
    it = f.lease(1, changes=groups)
    f.approve(it)
    f.claim(it)
    f.event("cp19", it, "BASELINE", values=gate_values()[::-1])
    agree(of_forge(f))
