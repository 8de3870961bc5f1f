"""Forgeries one step past a rule's edge, and of parts of a rule that no other forgery leaves out alone."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, LOG_KEY, TOKEN, Forge, Subject, key_line, person, policy, trust
from reject_chain import _broken, _note
from reject_claims import _root_without
from reject_limits import _limit
from reject_objects import _artifact, _manifest, _object
from reject_registry import add, reject
from reject_stories import gate_values, sample_fields, verdict

from keys.openssh import format_public, new_private_key
from keys.openssh_public import plain_key

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


@reject("nothing", "bad_format")
def genesis_with_a_control_character_in_its_origin(f: Forge) -> None:
    """The origin has an escape character."""
    key = LOG_KEY.vkey
    odd = type(key)(key.name.replace("/", "\x1b"), key.public)
    f.forge("ada", "genesis", f.genesis_fields(origin=odd.name, log_key=str(odd), trust=trust("ada", "ben")))


# Ids in capitals: what is looked up by an id is found however a root spells it.


def _in_capitals(*who: str, **changes: Any) -> dict[str, Any]:
    return trust(principals=[person(n, id=n.upper(), **changes) if n in who else person(n) for n in CAST])


def _vote_in_capitals(f: Forge, it: Subject) -> None:
    """DAN and CP14 cosign."""
    f.say("dan", "cosignature", {"role": "approver", "review": None}, it, by="DAN")
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    _, review = f.say("cp14", "review", fields, it, by="CP14")
    f.say("cp14", "cosignature", {"role": "sentinel", "review": review}, it, by="CP14")


@reject("term", "withdrawn")
def claim_withdrawn_in_capitals(f: Forge) -> None:
    """Two whose ids are written in capitals cosigned, and withdrew."""
    f.enact("trust", _in_capitals("dan", "cp14"))
    it = f.lease(1)
    _vote_in_capitals(f, it)
    for who in ("dan", "cp14"):
        f.say(who, "objection", {"verb": "withdraw", "reason": ""}, it, by=who.upper())
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("term", "quorum_unmet")
def claim_with_a_custodian_of_today_in_capitals(f: Forge) -> None:
    """Since they cosigned, a root gave both keys one custodian; their ids are written in capitals."""
    f.enact("trust", _in_capitals("dan", "cp14"))
    it = f.lease(1)
    _vote_in_capitals(f, it)
    f.now += 1
    f.enact("trust", _in_capitals("dan", "cp14", custodian="one"))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("term", "already_reviewed")
def reviewed_twice_in_capitals(f: Forge) -> None:
    """An agent whose id is written in capitals reviews a lease twice."""
    f.enact("trust", _in_capitals("cp14"))
    it = f.lease(1)
    fields = {"role": "sentinel", "verdict": "fail", "summary": "", "findings": None}
    f.say("cp14", "review", fields, it, by="CP14")
    f.forge("cp14", "review", {**fields, "verdict": "pass"}, it, by="CP14")


def _with_another(**changes: Any) -> dict[str, Any]:
    keys = [{"key": key_line("spare"), "user_verification": False}]
    return trust(principals=[*(person(n) for n in CAST), person("cp19", keys=keys, **changes)])


@reject("genesis", "bad_trust_root")
def next_root_changes_a_kind_in_capitals(f: Forge) -> None:
    """Somebody whose id is written in capitals was a monitor, and becomes an executor."""
    f.enact("trust", _with_another(id="ANOTHER"))
    f.forge("ada", "trust", f.proposal("trust", _with_another(id="ANOTHER", kind="executor")))


@reject("genesis", "bad_trust_root")
def next_root_changes_a_kind_after_a_while(f: Forge) -> None:
    """cbo was an overseer, then in no root, and comes back as an agent."""
    others = [person(n) for n in CAST if n != "cbo"]
    f.enact("trust", trust(principals=others))
    f.forge("ada", "trust", f.proposal("trust", trust(principals=[*others, person("cbo", kind="agent")])))


@reject("genesis", "bad_trust_root")
def next_root_holds_the_key_of_the_log(f: Forge) -> None:
    """A principal of a proposed root holds the log's key."""
    keys = [{"key": format_public(plain_key(LOG_KEY.vkey.public)), "user_verification": False}]
    people = [person(n, keys=keys) if n == "cp19" else person(n) for n in CAST]
    f.forge("ada", "trust", f.proposal("trust", trust(principals=people)))


# A key is the same under another type.

_PLAIN = new_private_key(lambda _: TOKEN.seed)


@reject("lease", "already_cosigned")
def cosigned_twice_with_a_key_of_two_types(f: Forge) -> None:
    """A lease is cosigned by a token, and again with its raw key as a plain one."""
    f.vote("tok", f.it, "approver")
    f.now += 1
    f.enact("trust", _plain("tok", ["approver"]))
    f.forge("tok", "cosignature", {"role": "approver", "review": None}, f.it, key=_PLAIN)


@reject("genesis", "already_cosigned")
def policy_cosigned_twice_with_a_key_of_two_types(f: Forge) -> None:
    """A proposal is cosigned by a token, and again with its raw key as a plain one."""
    f.enact("trust", trust(principals=[person(n, roles=["governor"]) if n == "tok" else person(n) for n in CAST]))
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("tok", it, "governor")
    f.now += 1
    f.enact("trust", _plain("tok", ["governor"]))
    f.forge("tok", "cosignature", {"role": "governor", "review": None}, it, key=_PLAIN)


def _plain(who: str, roles: list[str]) -> dict[str, Any]:
    keys = [{"key": format_public(_PLAIN.public), "user_verification": False}]
    return trust(principals=[person(n, keys=keys, roles=roles) if n == who else person(n) for n in CAST])
