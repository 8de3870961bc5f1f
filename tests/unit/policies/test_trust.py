"""Attacks on the trust root: who may change it, and what a change must never do."""

from __future__ import annotations

from pathlib import Path

import pytest
from governing import newcomer, principal, propose_policy, propose_trust, revoke, withdraw
from refusal import refused
from station import PEOPLE, Station, new_station

from keys.openssh import PrivateKey, format_public, new_private_key
from keys.openssh_public import HARDWARE, parse_blob, plain_key
from keys.signer import FileSigner
from keys.values import format_time, parse_time
from keys.wire import string
from ledger.note import parse_vkey
from policies.auditing.audit import audit
from policies.law.governance import quorum_progress
from policies.law.two_key import examine_lease
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    """Two governors and two operators are needed."""
    station = Station(tmp_path, thresholds=(2, 2))
    station.genesis()
    station.enact_fleet(voters=("ada", "ben"))
    return station


def test_trust_needs_the_old_threshold_and_the_new(station: Station) -> None:
    dan = new_private_key(station.random)
    root = station.trust()
    root["principals"].append(
        {
            "id": "dan",
            "kind": "human",
            "custodian": "dan",
            "roles": ["governor"],
            "keys": [{"key": format_public(dan.public), "user_verification": False}],
        }
    )
    root["thresholds"]["governors"] = 3
    station.people["dan"] = ("human", "dan", ["governor"])
    station.keys["dan"] = dan
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    station.vote("dan", subject, "governor")
    station.vote("ada", subject, "governor")
    progress = quorum_progress(station.state, station.state.proposals[proposal.digest])
    assert progress == [("governors in force", 1, 2), ("governors proposed", 2, 3)]
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_key_of_the_proposed_root_counts_for_the_new_threshold_only(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    station.vote("ada", subject, "governor")
    station.vote("dan", subject, "governor")
    assert station.state.trust_digest != proposal.digest
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_newcomer_signs_anything_else_before_the_root_is_in_force(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    policy = propose_policy(station)
    with refused("unknown_key"):
        station.vote("dan", ("policy", policy.digest), "governor")
    with refused("unknown_key"):
        withdraw(station, "dan", ("policy", policy.digest))
    with refused("unknown_key"):
        station.say("dan", "message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    station.vote("dan", ("trust", proposal.digest), "governor")


def test_newcomer_withdraws_what_it_cosigned(station: Station) -> None:
    root = newcomer(station)
    proposal = propose_trust(station, root)
    subject = ("trust", proposal.digest)
    for voter in ("dan", "ada"):
        station.vote(voter, subject, "governor")
    withdraw(station, "dan", subject)
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest != proposal.digest
    station.vote("dan", subject, "governor")
    assert station.state.trust_digest == proposal.digest


def test_kind_changed_under_the_same_id(station: Station) -> None:
    root = station.trust()
    cbo = principal(root, "cbo")
    cbo["kind"] = "agent"
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_kind_changed_under_an_id_that_was_gone_for_a_while(station: Station) -> None:
    root = station.trust()
    root["principals"] = [each for each in root["principals"] if each["id"] != "cp20b"]
    proposal = propose_trust(station, root)
    for voter in ("ada", "ben"):
        station.vote(voter, ("trust", proposal.digest), "governor")
    back = station.trust()
    other = principal(back, "cp20b")
    other.update(
        kind="agent",
        id="CP20b",
        keys=[{"key": format_public(new_private_key(station.random).public), "user_verification": False}],
    )
    with refused("bad_trust_root"):
        propose_trust(station, back)


def test_key_reassigned_to_another_principal(station: Station) -> None:
    root = station.trust()
    ada, ben = principal(root, "ada"), principal(root, "ben")
    ada["keys"], ben["keys"] = ben["keys"], ada["keys"]
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_one_key_under_two_ids(station: Station) -> None:
    root = station.trust()
    root["principals"].append({**principal(root, "cp14"), "id": "cp15", "custodian": "cp15"})
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_root_whose_members_cannot_meet_its_thresholds(station: Station) -> None:
    root = station.trust()
    root["thresholds"]["governors"] = 3
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_machine_made_governor(station: Station) -> None:
    root = station.trust()
    principal(root, "cbo")["roles"] = ["governor", "proposer"]
    with refused("bad_trust_root"):
        propose_trust(station, root)


def test_compromise_of_a_position_that_is_still_to_come(station: Station) -> None:
    with refused("bad_trust_root"):
        revoke(station, "ada", station.state.size + 100)


def test_compromised_key_stops_counting_for_an_open_proposal(station: Station) -> None:
    proposal = propose_policy(station)
    stolen = station.vote("ada", ("policy", proposal.digest), "governor")
    revoke(station, "ada", stolen.seq)
    station.vote("ben", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest != proposal.digest
    station.vote("ada", ("policy", proposal.digest), "governor")
    assert station.state.policy_digest == proposal.digest


def test_what_a_compromised_key_brought_into_force_stays(station: Station) -> None:
    proposal = propose_policy(station)
    stolen = station.vote("ada", ("policy", proposal.digest), "governor")
    station.vote("ben", ("policy", proposal.digest), "governor")
    revoke(station, "ada", stolen.seq)
    assert station.state.policy_digest == proposal.digest


def test_compromise_taken_back(station: Station) -> None:
    revoke(station, "ada", 3)
    with refused("bad_trust_root"):
        propose_trust(station, {**station.trust(), "compromised": []})


def test_compromised_key_signs_on(station: Station) -> None:
    old = station.keys["ada"]
    revoke(station, "ada", 3)
    draft = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})
    with refused("unknown_key"):
        station.append(station.sign("ada", draft, signer=FileSigner("ada", "human", old)))


def test_expired_root_claims_nothing(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    expires = format_time(parse_time(station.after(600)))
    proposal = propose_trust(station, station.trust(expires=expires))
    station.vote("ada", ("trust", proposal.digest), "governor")
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.clock.tick(600)
    fields = station.claim_fields(lease)
    station.clock.tick()
    with refused("trust_expired", step=3):
        station.say("cp20", "claim", fields, lease)
    station.clock.tick(-1)
    station.claim(lease)


def token_key(raw: bytes, application: str = "ssh:calyx") -> str:
    """The same point as the key of a hardware token."""
    blob = string(HARDWARE.encode()) + string(raw) + string(application.encode())
    return format_public(parse_blob(blob))


def entry(line: str, *, user_verification: bool = False) -> dict[str, object]:
    return {"key": line, "user_verification": user_verification}


@pytest.mark.parametrize(
    "disguise",
    [
        "a token's key of the same principal",
        "a token's key of another principal",
        "two tokens' keys of one point",
        "the same key with and without user verification",
        "the log key",
        "the log key as a token's",
    ],
)
def test_one_raw_key_twice_in_every_disguise(station: Station, disguise: str) -> None:
    root = station.trust()
    ada, ben = principal(root, "ada"), principal(root, "ben")
    raw, log = station.keys["ada"].public.raw, parse_vkey(station.state.log_key).public
    fresh = new_private_key(station.random).public.raw
    if disguise.startswith("a token's key of"):
        (ada if "same" in disguise else ben)["keys"].append(entry(token_key(raw)))
    elif disguise.startswith("two tokens"):
        ada["keys"] += [entry(token_key(fresh, "ssh:one")), entry(token_key(fresh, "ssh:two"))]
    elif disguise.startswith("the same key"):
        ada["keys"] += [entry(token_key(fresh), user_verification=flag) for flag in (False, True)]
    else:
        ada["keys"].append(entry(token_key(log) if "token" in disguise else format_public(plain_key(log))))
    with refused("bad_trust_root", rule="trust_root"):
        propose_trust(station, root)


def test_key_line_with_a_comment_is_no_other_key(station: Station) -> None:
    root = station.trust()
    line = principal(root, "ada")["keys"][0]["key"]
    principal(root, "ben")["keys"].append(entry(f"{line} ben@laptop"))
    with refused("bad_format"):
        propose_trust(station, root)


def test_key_of_an_earlier_root_as_anothers_token_key(station: Station) -> None:
    """Revoked, then brought back for somebody else, under another type: the point is remembered."""
    before = station.keys["ada"]
    after = rotate(station, "ada")
    assert station.state.key_owners[before.public.raw.hex()] == "ada"
    later = station.trust()
    principal(later, "ben")["keys"].append(entry(token_key(before.public.raw)))
    with refused("bad_trust_root"):
        propose_trust(station, later, who="ben")
    # For its own owner it may come back: rotation says nothing against it.
    own = station.trust()
    principal(own, "ada")["keys"].append(entry(format_public(before.public)))
    propose_trust(station, own, who="ben")
    assert station.keys["ada"] is after


def rotate(station: Station, name: str) -> PrivateKey:
    """A new key for one of two governors, approved by both: the old key for the old root, the new one for the new."""
    before, after = station.keys[name], new_private_key(station.random)
    root = station.trust()
    principal(root, name)["keys"] = [entry(format_public(after.public))]
    proposal = propose_trust(station, root, who="ben")
    vote = Draft("cosignature", {"role": "governor", "review": None}, ("trust", proposal.digest))
    for voter, key in (("ben", station.keys["ben"]), (name, before), (name, after)):
        station.append(station.sign(voter, vote, signer=station.signer(voter, key)))
    assert station.state.trust_digest == proposal.digest
    station.keys[name] = after
    return after


def test_rotated_keys_old_cosignature_audits_and_its_new_one_is_refused(station: Station) -> None:
    before = station.signer("ada")
    lease = station.propose()
    old = station.vote("ada", lease, "approver")
    rotate(station, "ada")
    late = Draft("cosignature", {"role": "approver", "review": None}, lease)
    with refused("unknown_key"):
        station.append(station.sign("ada", late, signer=before))
    station.review("cp14", lease)
    failed = [step for step in examine_lease(station.state, lease[1], station.clock.now) if not step.ok]
    assert f"entry {old.seq}" in failed[0].text
    report = audit(station.store, station.objects, remembered=None)
    assert report.ok
    assert not [note for note in report.notes if note.startswith("tainted")]
    # The person approves again, with the key they hold now.
    station.vote("ada", lease, "approver")
    assert all(step.ok for step in examine_lease(station.state, lease[1], station.clock.now))


def test_quorum_of_a_half_signed_policy_is_counted_anew_after_a_rotation(station: Station) -> None:
    policy = propose_policy(station)
    station.vote("ada", ("policy", policy.digest), "governor")
    rotate(station, "ada")
    assert quorum_progress(station.state, station.state.proposals[policy.digest]) == [("governors in force", 0, 2)]
    station.vote("ben", ("policy", policy.digest), "governor")
    assert station.state.policy_digest != policy.digest
    station.vote("ada", ("policy", policy.digest), "governor")
    assert station.state.policy_digest == policy.digest


def test_half_signed_trust_root_completed_after_another_is_in_force(station: Station) -> None:
    """The signature under the old proposal would bring a revoked key back, if it still counted."""
    back = propose_trust(station, station.trust(expires="2029-06-01T00:00:00Z"))
    subject = ("trust", back.digest)
    station.vote("ada", subject, "governor")
    rotate(station, "ada")
    with refused("stale_base"):
        station.vote("ben", subject, "governor")


def test_expired_root_is_renewed_by_its_own_quorum(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    proposal = propose_trust(station, station.trust(expires=station.after(600)))
    station.vote("ada", ("trust", proposal.digest), "governor")
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    station.clock.tick(601)
    with refused("trust_expired", step=3):
        station.claim(lease)
    renewal = propose_trust(station, station.trust())
    station.vote("ada", ("trust", renewal.digest), "governor")
    assert station.state.trust_digest == renewal.digest
    station.claim(lease)


@pytest.mark.parametrize("law", [0, 2, True, "1", None])
def test_root_of_another_law(station: Station, law: object) -> None:
    with refused("bad_format"):
        propose_trust(station, station.trust(law=law))


def test_governor_who_is_revoked_withholds_their_own_signature_and_nothing_more(tmp_path: Path) -> None:
    station = Station(tmp_path, thresholds=(2, 2), people={**PEOPLE, "cat": ("human", "cat", ["governor"])})
    station.genesis()
    root = station.trust()
    root["principals"].remove(principal(root, "cat"))
    subject = ("trust", propose_trust(station, root).digest)
    station.vote("ada", subject, "governor")
    for _ in range(3):
        withdraw(station, "cat", subject)
    with refused("wrong_subject"):
        withdraw(station, "cat", subject, "deny")
    station.vote("ben", subject, "governor")
    assert station.state.trust_digest == subject[1]
    with refused("unknown_key"):
        withdraw(station, "cat", subject)


def test_thief_cannot_keep_the_owner_from_cosigning_by_withdrawing_in_their_name(station: Station) -> None:
    """The stolen key withdraws what ada signed; what she signs after that counts, and both her keys sign at once."""
    stolen = station.signer("ada")
    fresh = new_private_key(station.random)
    root = station.trust()
    old = principal(root, "ada")["keys"][0]["key"]
    principal(root, "ada")["keys"] = [entry(format_public(fresh.public))]
    root["compromised"] = [{"key": old, "position": 1}]
    proposal = propose_trust(station, root, who="ben")
    subject = ("trust", proposal.digest)
    station.vote("ben", subject, "governor")
    station.vote("ada", subject, "governor")
    objection = Draft("objection", {"verb": "withdraw", "reason": "no"}, subject)
    station.append(station.sign("ada", objection, signer=stolen))
    vote = Draft("cosignature", {"role": "governor", "review": None}, subject)
    envelopes = [station.sign("ada", vote, signer=station.signer("ada", key)) for key in (station.keys["ada"], fresh)]
    station.registrar.append(envelopes)
    assert station.state.trust_digest == proposal.digest
