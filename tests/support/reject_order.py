"""Forgeries that break two rules at once: the one that stands first in docs/FORMAT.md names the refusal."""

from __future__ import annotations

import json
from typing import Any

from authenticator import field, frame
from forging import KEYS, LOG_KEY, Forge, Subject, checkpoint_of, digest_of, trust
from reject_chain import _broken
from reject_law import MESSAGE
from reject_registry import add, reject

from keys.canonical import format_json
from keys.sshsig import NAMESPACE_STATEMENT
from ledger.envelope import Envelope, pae
from ledger.merkle import hash_leaf
from ledger.record import make_record


def early(f: Forge) -> dict[str, Any]:
    """The head of who saw genesis alone."""
    return {"size": 1, "hash": f.records[0].leaf}


def fleet(f: Forge) -> Subject:
    """The proposal of the fleet in force."""
    return "fleet", f.state.fleet_digest


def _cosign(name: str, what: str, moment: str, code: str, who: str, role: str, late: int = 0) -> None:
    def doing(f: Forge) -> None:
        f.now += late
        f.forge(who, "cosignature", {"role": role, "review": None}, f.it)

    add(f"order cosignature {name}", what, moment, code, doing)


_cosign(
    "late and without the role", "Too late, by who has not that role.", "lease", "role_missing", "ben", "sentinel", 601
)
_cosign("late and as governor", "Too late, and as governor.", "lease", "wrong_role", "ben", "governor", 601)
_cosign(
    "of who may not, after the claim",
    "After the claim, without the role.",
    "claimed",
    "role_missing",
    "cp18",
    "approver",
)
_cosign("as governor after the claim", "After the claim, as governor.", "claimed", "wrong_role", "ben", "governor")


@reject("lease", "role_missing")
def order_review_without_the_role_on_a_lease_not_seen(f: Forge) -> None:
    """A person reviews a lease that they had not seen."""
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    f.forge("ada", "review", fields, f.it, head=early(f))


@reject("lease", "unknown_subject")
def order_review_of_a_proposal_not_seen(f: Forge) -> None:
    """It is about no lease, and its signer had not seen what it is about."""
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    f.forge("cp14", "review", fields, fleet(f), head=early(f), made_at=f.common("ada")["made_at"])


@reject("claimed", "already_reviewed")
def order_review_again_after_the_claim(f: Forge) -> None:
    """An agent's second review of a lease that is claimed."""
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    f.forge("cp14", "review", fields, f.it)


@reject("lease", "role_missing")
def order_vote_without_the_role_on_what_is_in_force(f: Forge) -> None:
    """Somebody without the role cosigns a proposal that is in force."""
    f.forge("dan", "cosignature", {"role": "operator", "review": None}, fleet(f))


@reject("lease", "role_missing")
def order_withdrawal_without_the_role_from_what_is_in_force(f: Forge) -> None:
    """Somebody without the role withdraws from a proposal that is in force."""
    f.forge("dan", "objection", {"verb": "withdraw", "reason": ""}, fleet(f))


@reject("claimed", "role_missing")
def order_denial_without_the_role_after_the_claim(f: Forge) -> None:
    """A validator denies a lease that is claimed."""
    f.forge("cp18", "objection", {"verb": "deny", "reason": ""}, f.it)


@reject("term", "head_moved")
def order_term_of_a_wrong_epoch_on_an_older_head(f: Forge) -> None:
    """A term with the last epoch, on a head without the last entry."""
    head = {"size": f.head.size - 1, "hash": f.records[-2].leaf}
    f.forge("cp20", "term", {"epoch": 1, "reason": "a test"}, head=head)


@reject("approved", "head_moved")
def order_claim_of_a_wrong_epoch_on_an_older_head(f: Forge) -> None:
    """A claim of another epoch, on a head without the last entry."""
    head = {"size": f.head.size - 1, "hash": f.records[-2].leaf}
    f.forge("cp20", "claim", f.claim_fields(f.it, epoch=2), f.it, head=head)


@reject("approved", "wrong_cohorts")
def order_claim_of_cohorts_that_are_not_kept(f: Forge) -> None:
    """A cohort is an object of another hash, which is not kept: its hash says enough."""
    fields = f.claim_fields(f.it)
    fields["cohorts"][0]["instances"] = {"sha256": digest_of(0), "size": 10}
    f.forge("cp20", "claim", fields, f.it)


def _event(name: str, what: str, moment: str, code: str, who: str, **changes: Any) -> None:
    def doing(f: Forge) -> None:
        subject = (changes.get("called", f.it[0]), f.it[1])
        head = early(f) if changes.get("early") else f.common(who)["head"]
        type_ = changes.get("type", "STARTED")
        f.forge(who, "event", {"epoch": changes.get("epoch", 1), "detail": {"type": type_}}, subject, head=head)

    add(f"order event {name}", what, moment, code, doing)


_event(
    "by a person of a lease not seen", "By a person, on a lease not seen.", "claimed", "wrong_kind", "ada", early=True
)
_event(
    "of another term under another name",
    "Of another epoch, on a lease under another name.",
    "claimed",
    "unknown_subject",
    "cp20",
    epoch=2,
    called="LEASE-1",
)
_event(
    "of another term, not claimed", "Of another epoch, on a lease without a claim.", "lease", "fenced", "cp20", epoch=2
)
_event(
    "not claimed under another name",
    "On a lease without a claim, under another name.",
    "lease",
    "unknown_subject",
    "cp20",
    called="LEASE-1",
)


@reject("claimed", "head_too_old")
def order_baseline_with_an_epoch_on_a_lease_not_seen(f: Forge) -> None:
    """A monitor's event with an epoch, on a lease that it had not seen."""
    f.forge("cp19", "event", {"epoch": 1, "detail": {"type": "BASELINE", "values": None}}, f.it, head=early(f))


@reject("lease", "command_expired")
def order_command_too_late_and_not_claimed(f: Forge) -> None:
    """An order that is over, to what was not claimed."""
    fields = f.command_fields(f.it, "pause", expires_at=f.common("ada")["made_at"])
    f.now += 1
    f.forge("ada", "command", fields, f.it)


@reject("lease", "unknown_subject")
def order_command_not_claimed_under_another_name(f: Forge) -> None:
    """An order to what was not claimed, under another name."""
    f.forge("ada", "command", f.command_fields(f.it, "pause"), ("LEASE-1", f.it[1]))


@reject("back", "stale_command")
def order_command_on_another_state_after_the_end(f: Forge) -> None:
    """An order to resume what has ended, on another state."""
    f.forge_command("ada", f.it, "resume", state=digest_of(0))


@reject("back", "bad_command")
def order_command_with_a_tier_after_the_end(f: Forge) -> None:
    """An order to pause what has ended, with a tier."""
    f.forge_command("ada", f.it, "pause", tier=25)


@reject("back", "nothing_to_roll_back")
def order_rollback_of_what_went_back_beside_a_live_one(f: Forge) -> None:
    """What was rolled back is ordered back again, while its target is busy."""
    other = f.lease(2)
    f.approve(other)
    f.claim(other)
    f.forge_command("ada", f.it, "rollback")


# Genesis.


def _genesis(name: str, what: str, code: str, who: str = "ada", **changes: Any) -> None:
    def doing(f: Forge) -> None:
        f.forge(who, "genesis", f.genesis_fields(**changes))

    add(f"order genesis {name}", what, "nothing", code, doing)


_AFTER_NOTHING = {"ledger": digest_of(1), "head": {"size": 0, "hash": digest_of(1)}}
_genesis("of another, short name", "The origin is another than the key's, and no origin.", "bad_genesis", origin="A")
_genesis(
    "by no governor for no log", "By who is no governor, and the log's key is none.", "role_missing", "cbo", log_key=""
)
_genesis("after nothing with a root without a governor", "It continues no entry, and its root has too few governors.",
         "bad_genesis", continues=_AFTER_NOTHING, trust=trust("ada", "cbo"))  # fmt: skip


# Signatures of people: well formed, of a type that can be enrolled, by that key, in its namespace.


def _blob(name: str, what: str, code: str, key: bytes, namespace: str, inner: bytes = b"") -> None:
    def doing(f: Forge) -> None:
        body = f.body("message", {**f.common("ada"), **MESSAGE})
        honest = f.sign("ada", "message", body)
        signed = inner or field(b"ssh-ed25519") + field(KEYS["ada"].sign_raw(pae(body)))
        f.force(Envelope(body, honest.keyid, frame(key or KEYS["ada"].public.blob, namespace, signed)))

    add(f"order signature {name}", what, "fleet", code, doing)


_WEAK = field(b"ssh-ed25519") + field(b"\x01" + bytes(31))
_blob("that names a weak key", "The blob names the identity as its key.", "wrong_key", _WEAK, NAMESPACE_STATEMENT)
_blob("in no namespace", "The blob has an empty namespace.", "wrong_namespace", b"", "")
_blob("in a namespace of a line break", "Its namespace is a line break.", "wrong_namespace", b"", "\n")
_blob(
    "of a longer key",
    "A byte follows the key in the blob.",
    "wrong_key",
    KEYS["ada"].public.blob + b"\0",
    NAMESPACE_STATEMENT,
)
_blob("of a longer key in another namespace", "Another key, and another namespace.", "wrong_key", _WEAK, "")
_blob("of a weak key, cut", "The blob names a weak key, and its signature has 63 bytes.", "bad_format", _WEAK, "",
      field(b"ssh-ed25519") + field(bytes(63)))  # fmt: skip
_blob("of another type, cut", "It is of type RSA, and its inner signature is empty.", "unsupported_key",
      field(b"ssh-rsa") + field(b"x"), NAMESPACE_STATEMENT, field(b""))  # fmt: skip


# Statements.


def _typed(name: str, what: str, code: str, type_: str, **members: Any) -> None:
    def doing(f: Forge) -> None:
        value = json.loads(f.body("message", {**f.common("cbo"), **MESSAGE}))
        f.force(f.sign("cbo", "message", format_json({**value, "predicateType": type_, **members})))

    add(f"statement {name}", what, "fleet", code, doing)


_typed("of a kind with a long name", "The type of its predicate has 300 characters.", "unknown_kind", "x" * 300)
_typed("of no kind, about nothing", "It is of no kind, and has no subject.", "bad_format", "x", subject=[])
_typed(
    "of no kind that says nothing", "It is of no kind, and its predicate is null.", "bad_format", "x", predicate=None
)


# Records, and the chain.


def _beside_no_base64(records: list[bytes], note: bytes) -> tuple[list[bytes], bytes]:
    one = records[2].replace(b'"time":"2026-01-05T09:00:00Z"', b'"time":"2026-01-05T09:00:01Z"')
    another = records[4].replace(b'"payload":"e', b'"payload":"=')
    return [*records[:2], one, records[3], another, *records[5:]], note


_broken(
    "changed_before_an_entry_that_none_confirms",
    "Of an entry the time is another; the next but one names the leaf of the next, and its payload is no base64.",
    3,
    _beside_no_base64,
)


def _over(data: bytes, prev: str) -> bytes:
    """The record over another leaf."""
    return format_json({**json.loads(data), "prev": prev})


def _named(records: list[bytes], note: bytes) -> tuple[list[bytes], bytes]:
    first = _over(records[0], "1" * 64)
    return [first, _over(records[1], hash_leaf(first).hex()), *records[2:]], note


def _resized(records: list[bytes], note: bytes) -> tuple[list[bytes], bytes]:
    changed = [*records[:-1], _over(records[-1], "1" * 64)]
    return changed, checkpoint_of(changed, lambda size, root: LOG_KEY.sign(size + 1, root))


# Nothing that is in order confirms what precedes an entry that names another leaf.
_broken(
    "chain_whose_first_names_one_before_and_is_named",
    "The first entry names one before it, and the second one names its leaf.",
    0,
    _named,
)
_broken(
    "chain_of_one_that_names_one_before",
    "The only entry names one before it.",
    0,
    lambda records, note: ([_over(records[0], "1" * 64)], note),
)
_broken(
    "chain_with_another_prev_before_what_is_no_record",
    "Entry 3 names another leaf, and what follows it is an empty object.",
    3,
    lambda records, note: ([*records[:3], _over(records[3], "1" * 64), b"{}"], note),
)
_broken(
    "chain_with_another_prev_at_the_end_under_its_root_and_a_larger_size",
    "The last entry names another leaf; the checkpoint is over these leaves, and of an entry more.",
    6,
    _resized,
)


def _placed(name: str, what: str, seq: int) -> None:
    def doing(f: Forge) -> None:
        body = f.body("message", {**f.common("cbo"), **MESSAGE})
        data = make_record(f.head.size, f.head.hash, f.now, f.sign("cbo", "message", body)).data
        f.force_bytes(data.replace(b'"seq":%d,' % f.head.size, b'"seq":%d,' % seq))

    add(f"record {name}", what, "fleet", "broken_chain", doing)


_placed("that says it is an earlier entry", "It says that it is entry 1, whose signer had seen all that precede it.", 1)
_placed("that says it is the first entry", "It says that it is entry 0, whose signer had seen all that precede it.", 0)
