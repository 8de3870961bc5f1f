"""Proposals of policy and trust as tests make them, on a station that needs two governors."""

from __future__ import annotations

from typing import Any

from station import Station, matrix

from keys.openssh import format_public, new_private_key
from policies.matrix import CapabilityMatrix
from policies.submitter import Draft, Receipt


def propose_policy(station: Station, **changes: Any) -> Receipt:
    fields = {
        "base": station.state.policy_digest,
        "reason": "a test",
        "approve_by": station.after(3600),
        "policy": CapabilityMatrix.from_json(matrix(**{"bake_s": 60, **changes})).to_json(),
    }
    return station.say("ada", "policy", fields)


def propose_trust(station: Station, trust: dict[str, Any], who: str = "ada", **changes: Any) -> Receipt:
    fields = {
        "base": station.state.trust_digest,
        "reason": "a test",
        "approve_by": station.after(3600),
        "trust": trust,
        **changes,
    }
    return station.say(who, "trust", fields)


def principal(trust: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in trust["principals"] if each["id"] == name)
    return found


def withdraw(station: Station, who: str, subject: tuple[str, str], verb: str = "withdraw") -> Receipt:
    return station.say(who, "objection", {"verb": verb, "reason": "a test"}, subject)


def newcomer(station: Station, **changes: Any) -> dict[str, Any]:
    """A root in which `dan` replaces `ben` as governor; the threshold is two."""
    station.people["dan"] = ("human", "dan", ["governor"])
    station.keys["dan"] = new_private_key(station.random)
    root = station.trust()
    principal(root, "ben")["roles"] = ["approver", "operator"]
    return {**root, **changes}


def revoke(station: Station, name: str, position: int) -> Receipt:
    """A root in which `name` has a new key, the old one compromised from `position` on, in force."""
    root = station.trust()
    fresh = new_private_key(station.random)
    old = principal(root, name)["keys"][0]["key"]
    principal(root, name)["keys"] = [{"key": format_public(fresh.public), "user_verification": False}]
    root["compromised"] = [{"key": old, "position": position}]
    proposal = propose_trust(station, root, who="ben")
    # The old key still counts for the old threshold, and for the new one only the new key does.
    for voter, key in (("ben", station.keys["ben"]), (name, station.keys[name]), (name, fresh)):
        if station.state.trust_digest != proposal.digest:
            vote = Draft("cosignature", {"role": "governor", "review": None}, ("trust", proposal.digest))
            station.append(station.sign(voter, vote, signer=station.signer(voter, key)))
    station.keys[name] = fresh
    assert station.state.trust_digest == proposal.digest
    return proposal
