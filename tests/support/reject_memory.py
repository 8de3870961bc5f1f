"""Forgeries that only a verifier takes that keeps the wrong one of two times, votes, keys or entries."""

from __future__ import annotations

from forging import CAST, KEYS, Forge, Subject, after, key_line, person, policy, trust
from reject_claims import _keys
from reject_law import MESSAGE
from reject_registry import reject
from reject_stories import sample_fields

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


@reject("term", "wrong_count")
def claim_counts_the_pair_whose_first_is_lowest(f: Forge) -> None:
    """Of two pairs it counts the one that begins first, and not the one that was complete first."""
    it: Subject = _keys("ada", "ben", "cp14b", "cp14")(f)
    votes = {vote.signer.principal: vote.seq for vote in f.state.leases[it[1]].ballot.votes}
    f.forge("cp20", "claim", f.claim_fields(it, counted=[votes["ada"], votes["cp14"]]), it)


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
