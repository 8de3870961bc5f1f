"""Forgeries one step past a rule's edge, and of parts of a rule that no other forgery leaves out alone."""

from __future__ import annotations

from typing import Any

from forging import KEYS, LOG_KEY, Forge, key_line, person, trust
from reject_chain import _broken, _note
from reject_claims import _root_without
from reject_limits import _limit
from reject_objects import _artifact, _manifest, _object
from reject_registry import add, reject
from reject_stories import gate_values, sample_fields, verdict

_broken(
    "checkpoint_of_2_53_entries",
    "It is signed over more entries than there are numbers.",
    None,
    _note(lambda records, note: LOG_KEY.sign(2**53, bytes(32))),
    "bad_checkpoint",
)
_broken(
    "chain_shorter_than_2_53_less_one",
    "The checkpoint covers as many entries as there may be.",
    7,
    _note(lambda records, note: LOG_KEY.sign(2**53 - 1, bytes(32))),
)
_broken(
    "checkpoint_of_a_witness_alone",
    "Nobody signed it but a witness.",
    None,
    _note(lambda records, note: note.rpartition(b"\xe2\x80\x94")[0] + "\u2014 witness AAAAAAAA\n".encode()),
    "bad_checkpoint",
)

_limit("fleet_body", "targets.web.instances.0.root", "//srv", "two slashes first")
_limit("lease", "paths", ["../a", "b"], "one above the tree, and one in it")
_limit("policy", "policy.deploy_production.gates.0.limit", "-0.000000000", "minus zero with nine places")

_object(
    "manifest_with_a_long_name_above",
    "A directory's manifest lists a name of 256 bytes with a file in it.",
    "bad_path",
    _artifact(_manifest(["a" * 256, "dir"], ["a" * 256 + "/b", "dir"])),
)
_object(
    "manifest_with_a_long_name_below",
    "A directory's manifest lists a name of 256 bytes in a directory.",
    "bad_path",
    _artifact(_manifest(["a", "dir"], ["a/" + "b" * 256, "dir"])),
)
_object(
    "manifest_with_a_long_link",
    "A directory's manifest lists a link of 4,096 bytes.",
    "bad_path",
    _artifact(_manifest(["a", "link", "b" * 4096])),
)
_object(
    "manifest_of_65_steps",
    "A directory's manifest lists a path of 65 segments.",
    "bad_path",
    _artifact(_manifest(*(["a" + "/a" * depth, "dir"] for depth in range(65)))),
)


@reject("fleet", "bad_format")
def fleet_with_a_name_twice_in_one_of_two_targets(f: Forge) -> None:
    """One of two targets has two instances of one name."""
    once: dict[str, Any] = f.fleet_object()
    body = f.objects.kept[once["sha256"]]
    target = body[len(b'{"targets":{"web":') : -2]
    twice = target.replace(b'"web-02"', b'"WEB-01"')
    other = target.replace(b"/srv/web-", b"/srv/db-")
    ref = f.objects.put(b'{"targets":{"db":' + other + b',"web":' + twice + b"}}")
    f.forge("ada", "fleet", f.proposal("fleet", {"sha256": ref.sha256, "size": ref.size}))


@reject("lease", "unknown_key")
def cosignature_by_an_unknown_key(f: Forge) -> None:
    """A cosignature on a lease by a key that its signer does not hold."""
    f.forge("ada", "cosignature", {"role": "approver", "review": None}, f.it, key=KEYS["spare"])


@reject("genesis", "unknown_key")
def denial_by_a_key_of_the_proposed_root(f: Forge) -> None:
    """A trust proposal is denied, and not cosigned or withdrawn from, with a key that it proposes."""
    it = f.say("ada", "trust", f.proposal("trust", _with_spare()))
    f.forge("ada", "objection", {"verb": "deny", "reason": ""}, it, key=KEYS["spare"])


def _with_spare() -> dict[str, Any]:
    keys = [{"key": key_line(name), "user_verification": False} for name in ("ada", "spare")]
    return trust(principals=[person("ada", keys=keys), *trust()["principals"][1:]])


@reject("genesis", "bad_trust_root")
def trust_of_a_threshold_that_only_others_would_meet(f: Forge) -> None:
    """It asks for three governors; there are three custodians, but two of governors."""
    f.forge("ada", "trust", f.proposal("trust", trust(thresholds={"governors": 3, "operators": 2})))


@reject("approved", "key_compromised")
def claim_of_keys_compromised_from_there(f: Forge) -> None:
    """Both keys were compromised from the very entry of the first cosignature."""
    first = f.state.leases[f.it[1]].ballot.votes[0]
    _root_without("ada", "cp14", compromised=first.seq)(f)
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("sampled", "not_baked")
def promoted_with_a_value_missing_of_two(f: Forge) -> None:
    """A sample has a value for one gate, and none for the other."""
    f.now += 15
    some = [gate_values()[0], *gate_values(None)[1:]]
    f.event("cp19", f.it, "SAMPLE", **{**sample_fields(f, f.it, 2), "values": some})
    verdict(f, f.it, 2)
    f.forge_event("cp20", f.it, "CANARY_PROMOTED", tier=25, to=100)


@reject("genesis", "bad_trust_root")
def trust_of_two_compromises_of_which_one_is_to_come(f: Forge) -> None:
    """One of two positions is past the entry."""
    marked = [{"key": key_line(name), "position": at} for name, at in (("spare", 1), ("other", f.head.size + 1))]
    f.forge("ada", "trust", f.proposal("trust", trust(compromised=marked)))


def _id(name: str, kind: str, id_: str) -> None:
    def doing(f: Forge) -> None:
        if kind == "lease":
            f.intent("INT-20260105-001")
        fields = f.lease_fields(1, id=id_) if kind == "lease" else {"id": id_, "target": "web", "what": "", "why": ""}
        f.forge("cbo", kind, fields)

    add(f"{kind}_id_{name}", f"Its id is {id_}.", "fleet", "bad_id", doing)


for _name, _kind, _text in (
    ("of_2_digits", "intent", "INT-20260105-01"),
    ("of_7_digits", "intent", "INT-20260105-0000001"),
    ("with_7_digits_more", "intent", "INT-20260105-001-0000001"),
    ("with_a_dash", "intent", "INT-20260105-001-"),
    ("with_7_digits_more", "lease", "LEASE-20260105-000001-0000001"),
    ("with_a_dash", "lease", "LEASE-20260105-000001-"),
):
    _id(_name, _kind, _text)
