"""Attacks on what is in force: half-signed and stale proposals, one's own revocation, keys not enrolled yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from assault import appended, approval, enact, judged, objection, repelled
from governing import newcomer, principal, propose_policy, propose_trust, revoke
from station import PEOPLE, Station

from keys.openssh import new_private_key
from keys.principals import Kind
from ledger.statement import parse_statement
from policies.submitter import Draft


@pytest.fixture
def governed(tmp_path: Path) -> Station:
    """Two governors and two operators are needed; cat is a third."""
    people = {**PEOPLE, "cat": ("human", "cat", ["governor", "operator"])}
    station = Station(tmp_path, thresholds=(2, 2), people=people)
    station.genesis()
    station.enact_fleet(voters=("ada", "ben"))
    return station


def without(station: Station, name: str) -> dict[str, Any]:
    """The present root without one of its principals."""
    root = station.trust()
    root["principals"].remove(principal(root, name))
    return root


@pytest.mark.parametrize("role", ["operator", "approver", "sentinel", "validator"])
def test_role_swap_on_a_policy(governed: Station, role: str) -> None:
    subject = ("policy", propose_policy(governed).digest)
    repelled(governed, governed.sign("ada", approval(subject, role)), "wrong_role", rule="roles")


@pytest.mark.parametrize("kind", ["policy", "trust"])
def test_cosignature_held_back_over_a_withdrawal_completes_no_quorum(governed: Station, kind: str) -> None:
    proposal = propose_policy(governed) if kind == "policy" else propose_trust(governed, governed.trust())
    subject = (kind, proposal.digest)
    leaked = governed.sign("ada", approval(subject, "governor"))
    governed.say("ada", "objection", {"verb": "withdraw", "reason": "no"}, subject)
    governed.vote("ben", subject, "governor")
    appended(governed, leaked)
    assert proposal.digest not in {governed.state.policy_digest, governed.state.trust_digest}


def test_half_signed_old_policy_completed_later(governed: Station) -> None:
    old = propose_policy(governed, bake_s=1)
    governed.vote("ada", ("policy", old.digest), "governor")
    new = propose_policy(governed, bake_s=120)
    for voter in ("ada", "ben"):
        governed.vote(voter, ("policy", new.digest), "governor")
    for voter in ("ben", "cat"):
        vote = governed.sign(voter, approval(("policy", old.digest), "governor"))
        repelled(governed, vote, "stale_base", rule="governance")
    assert governed.state.policy_digest == new.digest


def test_half_signed_old_policy_brought_again(governed: Station) -> None:
    """Were its base not pinned, an old text could return by itself."""
    before = governed.state.policy_digest
    new = propose_policy(governed, bake_s=120)
    for voter in ("ada", "ben"):
        governed.vote(voter, ("policy", new.digest), "governor")
    fields = parse_statement(governed.sign("ada", _policy_draft(governed, before)).body).predicate
    assert fields["base"] == before
    repelled(governed, governed.sign("ada", _policy_draft(governed, before)), "stale_base", rule="governance")


def _policy_draft(station: Station, base: str) -> Draft:
    policy = station.state.policy
    assert policy is not None
    fields = {"base": base, "reason": "again", "approve_by": station.after(60), "policy": policy.to_json()}
    return Draft("policy", fields)


def test_half_signed_policy_whose_governor_lost_the_role(governed: Station) -> None:
    subject = ("policy", propose_policy(governed, bake_s=1).digest)
    governed.vote("cat", subject, "governor")
    governed.people["cat"] = ("human", "cat", ["operator"])
    enact(governed, "ada", "ben")
    appended(governed, governed.sign("ada", approval(subject, "governor")))
    assert governed.state.policy_digest != subject[1]


def test_half_signed_policy_whose_governors_key_was_stolen(governed: Station) -> None:
    """What the thief cosigned before the revocation completes nothing after it."""
    subject = ("policy", propose_policy(governed, bake_s=1).digest)
    stolen = governed.append(governed.sign("ada", approval(subject, "governor")))
    revoke(governed, "ada", stolen.seq)
    appended(governed, governed.sign("ben", approval(subject, "governor")))
    assert governed.state.policy_digest != subject[1]


@pytest.mark.parametrize("verb", ["deny", "withdraw"])
def test_denial_of_ones_own_revocation(governed: Station, verb: str) -> None:
    """A governor who is to go cannot stop the others, before or after."""
    subject = ("trust", propose_trust(governed, without(governed, "cat")).digest)
    code = "wrong_subject" if verb == "deny" else None
    judged(governed, governed.sign("cat", objection(subject, verb)), code)
    governed.vote("ada", subject, "governor")
    judged(governed, governed.sign("cat", objection(subject, verb)), code)
    governed.vote("ben", subject, "governor")
    assert governed.state.trust_digest == subject[1]
    repelled(governed, governed.sign("cat", objection(subject, verb)), "unknown_key")


def test_revoked_governor_proposes_itself_back(governed: Station) -> None:
    subject = ("trust", propose_trust(governed, without(governed, "cat")).digest)
    for voter in ("ada", "ben"):
        governed.vote(voter, subject, "governor")
    fields = {"base": subject[1], "reason": "me", "approve_by": governed.after(60), "trust": governed.trust()}
    repelled(governed, governed.sign("cat", Draft("trust", fields)), "unknown_key")


def test_newcomer_of_a_proposed_root_acts_before_it_is_in_force(governed: Station) -> None:
    root = newcomer(governed)
    proposal = propose_trust(governed, root)
    policy = ("policy", propose_policy(governed).digest)
    repelled(governed, governed.sign("dan", approval(policy, "governor")), "unknown_key")
    repelled(governed, governed.sign("dan", objection(policy)), "unknown_key")
    lease = governed.propose()
    repelled(governed, governed.sign("dan", approval(lease)), "unknown_key")
    appended(governed, governed.sign("dan", approval(("trust", proposal.digest), "governor")))
    assert governed.state.trust_digest != proposal.digest


def test_trust_changed_by_its_newcomers_alone(governed: Station) -> None:
    """Keys that a root enrols count for its own threshold, never for the one in force."""
    people: dict[str, tuple[Kind, str, list[str]]] = {
        name: ("human", name, ["governor"]) for name in ("eve", "fay", "gil")
    }
    governed.people |= people
    governed.keys |= {name: new_private_key(governed.random) for name in people}
    proposal = propose_trust(governed, governed.trust(), who="ada")
    for voter in (*people, "ada"):
        appended(governed, governed.sign(voter, approval(("trust", proposal.digest), "governor")))
    assert governed.state.trust_digest != proposal.digest


def test_two_governors_under_one_custodian_change_the_trust_root(tmp_path: Path) -> None:
    people = {**PEOPLE, "cat": ("human", "ada", ["governor"])}
    station = Station(tmp_path, thresholds=(2, 1), people=people)
    station.genesis()
    proposal = propose_trust(station, station.trust())
    for voter in ("ada", "cat"):
        appended(station, station.sign(voter, approval(("trust", proposal.digest), "governor")))
    assert station.state.trust_digest != proposal.digest
