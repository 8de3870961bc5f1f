"""Forgeries that only a verifier takes that keeps the wrong one of two times, votes, keys or entries."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, TOKEN, Forge, Subject, after, key_line, person, policy, trust
from reject_claimed import _asking
from reject_claims import _keys, _root_without
from reject_edges import _in_capitals
from reject_law import MESSAGE
from reject_registry import add, reject
from reject_statements import APPROVAL
from reject_stories import fleet_body, sample_fields

from ledger.envelope import Envelope, pae

_REVIEW = {"role": "validator", "verdict": "pass", "summary": "", "findings": None}


@reject("fleet", "clock_suspect")
def machine_made_it_before_the_last_of_its_head(f: Forge) -> None:
    """A machine made it after the last entry but one of its head, and before the last one."""
    f.now += 10
    f.say("ada", "message", MESSAGE)
    f.forge("cbo", "message", MESSAGE, made_at=after(f.now, -5))


@reject("lease", "approval_expired")
def cosigned_late_by_its_record(f: Forge) -> None:
    """A cosignature is made in time, and recorded a second after approve_by."""
    made_at = f.common("ben")["made_at"]
    f.now += 601
    f.forge("ben", "cosignature", {"role": "approver", "review": None}, f.it, made_at=made_at)


@reject("claimed", "command_expired")
def command_late_by_its_record(f: Forge) -> None:
    """An order is made in time, and recorded a second after its end."""
    fields = {**f.command_fields(f.it, "pause"), "expires_at": after(f.now, 1)}
    made_at = f.common("ben")["made_at"]
    f.now += 2
    f.forge("ben", "command", fields, f.it, made_at=made_at)


@reject("approved", "lease_denied")
def claim_denied_by_who_cosigned(f: Forge) -> None:
    """Who denied it is the person that cosigned: a denial withdraws nothing."""
    f.say("ada", "objection", {"verb": "deny", "reason": ""}, f.it)
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("approved", "lease_denied")
def cosigned_after_a_denial_and_a_withdrawal(f: Forge) -> None:
    """Somebody withdrew after somebody denied: it stays denied."""
    f.say("dan", "objection", {"verb": "deny", "reason": ""}, f.it)
    f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, f.it)
    f.forge("ben", "cosignature", {"role": "approver", "review": None}, f.it)


@reject("approved", "lease_consumed", "glass")
def reviewed_after_the_claim_of_what_was_reviewed_before(f: Forge) -> None:
    """Broken glass that an agent had reviewed owes nothing."""
    f.review("cp14", f.it)
    f.claim(f.it)
    f.forge("cp18", "review", _REVIEW, f.it)


@reject("term", "lease_consumed")
def reviewed_after_the_claim_where_no_key_of_a_review_is_held(f: Forge) -> None:
    """A policy asks for no review, and the sentinel that cosigned had another key at its review: nothing is owed."""
    f.enact("policy", policy(reviews=[]))
    it = f.lease(1)
    review = f.review("cp14", it)
    fresh = [{"key": key_line("spare"), "user_verification": False}]
    f.enact("trust", trust(principals=[person(n, keys=fresh) if n == "cp14" else person(n) for n in CAST]))
    f.vote("ada", it, "approver")
    f.say("cp14", "cosignature", {"role": "sentinel", "review": review}, it, key=KEYS["spare"])
    f.claim(it)
    f.forge("cp18", "review", _REVIEW, it)


def _counts(name: str, what: str, prepare: Any, first: str, then: str) -> None:
    """A claim that counts the cosignatures of these two, and not the pair that counts."""

    def doing(f: Forge) -> None:
        it: Subject = prepare(f)
        votes = {vote.signer.principal: vote.seq for vote in f.state.leases[it[1]].ballot.votes}
        f.forge("cp20", "claim", f.claim_fields(it, counted=[votes[first], votes[then]]), it)

    add(f"claim_counts_{name}", what, "term", "wrong_count", doing)


def _token_last(f: Forge) -> Subject:
    """The policy asks for a token, and it is the third that cosigns."""
    glass = {"enabled": True, "max_validity_s": 900, "review_within_s": 60, "user_verification": True}
    f.enact("policy", policy(break_glass=glass))
    f.enact("trust", _asking(True))
    it: Subject = _keys("ada", "ben", rule="break_glass")(f)
    body = f.body("cosignature", {**f.common("tok"), "role": "approver", "review": None}, it)
    f.put(Envelope(body, f.sign("tok", "cosignature", body).keyid, TOKEN.sign(APPROVAL, pae(body), flags=5)))
    return it


_counts("the pair whose first is lowest", "Of two pairs it counts the one that begins first, not the one that was "
        "complete first.", _keys("ada", "ben", "cp14b", "cp14"), "ada", "cp14")  # fmt: skip
_counts("two people", "It counts two people, before an agent.", _keys("ada", "ben", "cp14"), "ada", "ben")
_counts("two agents", "It counts two agents, before a person.", _keys("cp14", "cp18", "ada"), "cp14", "cp18")
_counts("an agent that broke the glass", "It counts an agent and a person, before another person.",
        _keys("cp14", "ada", "ben", rule="break_glass"), "cp14", "ada")  # fmt: skip
_counts("two without the token", "It counts two that broke the glass, before the token that the policy asks for.",
        _token_last, "ada", "ben")  # fmt: skip


@reject("term", "review_missing")
def claim_with_a_review_in_another_role(f: Forge) -> None:
    """The policy asks for a sentinel's review; a sentinel reviewed it as the validator that it is, too."""
    both = ["sentinel", "validator"]
    f.enact("trust", trust(principals=[person(n, roles=both) if n == "cp14" else person(n) for n in CAST]))
    it = f.lease(1)
    f.vote("ada", it, "approver")
    f.vote("cp14", it, "validator", f.review("cp14", it, role="validator"))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("term", "review_missing")
def claim_with_a_review_by_a_key_that_is_gone(f: Forge) -> None:
    """The sentinel that reviewed it has another key since; who cosigned is a validator."""
    it: Subject = _keys("ada", "cp18")(f)
    f.review("cp14", it)
    f.now += 1
    fresh = [{"key": key_line("spare"), "user_verification": False}]
    f.enact("trust", trust(principals=[person(n, keys=fresh) if n == "cp14" else person(n) for n in CAST]))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("sampled", "early_sample")
def sample_early_that_is_the_second(f: Forge) -> None:
    """The second sample comes two seconds before its time."""
    f.now += 13
    f.forge_event("cp19", f.it, "SAMPLE", **sample_fields(f, f.it, 2))


@reject("term", "fenced")
def order_claim_of_a_wrong_epoch_with_no_key(f: Forge) -> None:
    """A claim of another epoch, on a lease that nobody cosigned."""
    it = f.lease(1)
    f.forge("cp20", "claim", f.claim_fields(it, epoch=2), it)


@reject("fleet", "unknown_target")
def order_directory_of_another_tree_on_no_target(f: Forge) -> None:
    """A directory that is not the tree after a change, on a target that the fleet lacks."""
    f.intent("INT-20260105-001", "db")
    fields = f.lease_fields(1, target="db")
    f.forge("cbo", "lease", {**fields, "artifact": {**fields["artifact"], "type": "directory"}})


@reject("fleet", "unknown_instance")
def order_unknown_instance_behind_one_that_stays(f: Forge) -> None:
    """The first change leads from a tree to itself, and the second is of an unknown instance."""
    f.intent("INT-20260105-001")
    fields = f.lease_fields(1)
    tree = fields["changes"][0]["after"]
    stays = {"before": tree, "after": tree, "instances": ["web-01"]}
    f.forge("cbo", "lease", {**fields, "changes": [stays, {**fields["changes"][0], "instances": ["web-09"]}]})


@reject("term", "wrong_review")
def cosigned_with_a_review_in_another_role(f: Forge) -> None:
    """An agent that is sentinel and validator cosigns as the one, on its review as the other."""
    both = ["sentinel", "validator"]
    f.enact("trust", trust(principals=[person(n, roles=both) if n == "cp14" else person(n) for n in CAST]))
    it = f.lease(1)
    review = f.review("cp14", it, role="validator")
    f.forge("cp14", "cosignature", {"role": "sentinel", "review": review}, it)


@reject("approved", "role_missing")
def claim_of_keys_compromised_from_later(f: Forge) -> None:
    """Both keys were replaced since, and are compromised from an entry after their cosignatures."""
    _root_without("ada", "cp14", compromised=f.head.size)(f)
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("approved", "quorum_unmet")
def claim_of_a_key_respelled(f: Forge) -> None:
    """The agent that cosigned is spelled otherwise since: a cosignature counts for the id that the root has."""
    f.now += 1
    f.enact("trust", _in_capitals("cp14"))
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("genesis", "unknown_subject")
def proposal_under_another_name(f: Forge) -> None:
    """A cosignature on a policy's proposal under the name of a fleet's."""
    _, digest = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.forge("ada", "cosignature", {"role": "governor", "review": None}, ("fleet", digest))


@reject("genesis", "head_too_old")
def proposal_that_was_not_seen(f: Forge) -> None:
    """A cosignature on a policy's proposal by who had seen genesis alone."""
    head = f.common("ada")["head"]
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.forge("ada", "cosignature", {"role": "governor", "review": None}, it, head=head)


@reject("fleet", "stale_base")
def fleet_of_as_many_operators_as_governors_are_needed(f: Forge) -> None:
    """A root asks for one governor and two operators; one operator cosigned the fleet that another one is based on."""
    f.enact("trust", trust(thresholds={"governors": 1, "operators": 2}))
    it = f.say("ada", "fleet", f.proposal("fleet", f.fleet_object(fleet_body(5))))
    f.vote("ada", it, "operator")
    f.forge("ada", "fleet", f.proposal("fleet", f.fleet_object(), base=it[1]))


@reject("genesis", "unknown_key")
def proposal_cosigned_by_an_unknown_key(f: Forge) -> None:
    """A cosignature on a policy's proposal by a key that no root has."""
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.forge("ada", "cosignature", {"role": "governor", "review": None}, it, key=KEYS["spare"])
