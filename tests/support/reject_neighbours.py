"""Forgeries that break two rules that stand next to each other: the first of them names the refusal."""

from __future__ import annotations

from typing import Any

from forging import Forge, after, digest_of, policy
from reject_law import MESSAGE
from reject_leases import B
from reject_order import fleet
from reject_registry import Doing, add

from keys.values import ZERO_HASH


def _both(name: str, what: str, moment: str, code: str, doing: Doing, story: str = "main") -> None:
    add(f"order {name}", what, moment, code, doing, story)


# Every entry.


def _message(name: str, what: str, code: str, who: str = "ada", /, **said: Any) -> None:
    _both(name, what, "fleet", code, lambda f: f.forge(who, "message", {**MESSAGE, **said}))


_NOWHERE = {"size": 2, "hash": digest_of(0)}
_message(
    "of another ledger and its head", "All that it names is of another ledger.", "wrong_ledger",
    ledger=digest_of(0), head=_NOWHERE,
)  # fmt: skip
_message(
    "of a wrong shape on another history", "Its head is of another history, and its text a number.",
    "head_contradicted", head=_NOWHERE, text=1,
)  # fmt: skip
_message("of a reply to nothing for nobody", "It answers nothing, and is for nobody.", "unknown_subject",
         reply_to=digest_of(0), to="nobody")  # fmt: skip


def _genesis_again(f: Forge) -> None:
    f.force(f.records[0].envelope)


def _genesis_about_another(f: Forge) -> None:
    nothing: dict[str, Any] = {"ledger": ZERO_HASH, "head": {"size": 0, "hash": ZERO_HASH}}
    f.forge("ada", "genesis", f.genesis_fields(), ("genesis", digest_of(0)), **nothing)


def _long_ago(f: Forge) -> None:
    f.now += 121
    f.say("ada", "message", MESSAGE)
    f.forge("cbo", "message", MESSAGE, made_at=after(f.now, -121))


_both("genesis said again", "The first statement again.", "fleet", "misplaced_genesis", _genesis_again)
_both("genesis later about another", "A second genesis has another subject than itself.", "fleet", "bad_format",
      _genesis_about_another)  # fmt: skip
_both("machine made it long before its head", "A machine made it 121 s before the record, and before its head.",
      "fleet", "stale_statement", _long_ago)  # fmt: skip


# Proposals, intents and leases.


def _role_and_base(f: Forge) -> None:
    f.forge("dan", "policy", f.proposal("policy", policy(bake_s=60), base=digest_of(0)))


def _base_and_time(f: Forge) -> None:
    f.forge("ada", "policy", f.proposal("policy", policy(bake_s=60), base=digest_of(0), approve_by=after(f.now, -1)))


def _intent(f: Forge) -> None:
    f.forge("ada", "intent", {"id": "INT-1", "target": "web", "what": "", "why": ""})


_both("proposal without the role on another base", "By who is no governor, and on another base.", "fleet",
      "role_missing", _role_and_base)  # fmt: skip
_both("proposal late on another base", "On another base, and after its own time for approval.", "fleet", "stale_base",
      _base_and_time)  # fmt: skip
_both("intent without the role and form", "By no proposer, and its id has no form.", "fleet", "role_missing", _intent)


def _lease(name: str, what: str, code: str, change: Any, who: str = "cbo", target: str = "web") -> None:
    def doing(f: Forge) -> None:
        f.intent("INT-20260105-001", target)
        f.forge(who, "lease", {**f.lease_fields(1), **(change(f) if callable(change) else change)})

    _both(f"lease {name}", what, "fleet", code, doing)


def _over(f: Forge) -> dict[str, Any]:
    return dict.fromkeys(("not_before", "approve_by", "execute_by"), after(f.now, -1))


_GLASS = {"rule": "break_glass", "reason": None}
_SAME = {"changes": [{"before": B, "after": B, "instances": ["web-09"]}]}
for _name, _what, _code, _change in (
    ("id of no form without intent", "Its id has no form, and its intent is not there.", "bad_id",
     {"id": "LEASE-1", "intent": "INT-20260105-009"}),
    ("of another target and capability", "Its intent and its capability are for something else.", "wrong_target",
     {"target": "db", "capability": "deploy"}),
    ("of another capability and policy", "It asks for another capability, under another policy.", "unknown_capability",
     {"capability": "deploy", "policy": digest_of(0)}),
    ("on another policy and fleet", "Neither its policy nor its fleet is in force.", "stale_policy",
     {"policy": digest_of(0), "fleet": digest_of(0)}),
    ("on another fleet in bad windows", "Its fleet is not in force, and it ends before it begins.", "stale_fleet",
     lambda f: {"fleet": digest_of(0), "not_before": after(f.now, 901)}),
    ("over and completed before its end", "It is over, and completed before that.", "bad_windows",
     lambda f: {**_over(f), "complete_by": after(f.now, -2)}),
    ("over with tiers that fall", "It is over, and its tiers fall.", "lease_expired",
     lambda f: {**_over(f), "tiers": [25, 5, 100]}),
    ("without a reason with tiers that fall", "Its tiers fall, and it breaks glass for no reason.", "bad_tiers",
     {**_GLASS, "tiers": [25, 5, 100]}),
    ("of an unknown instance from a tree to itself", "It changes nothing, at an unknown instance.", "unknown_instance",
     _SAME),
):  # fmt: skip
    _lease(_name, _what, _code, _change)
_lease("without the role and form", "By no proposer, and its id has no form.", "role_missing", {"id": "LEASE-1"}, "ada")
_lease("without a reason on no target", "It breaks glass for no reason, on a target that the fleet lacks.",
       "reason_missing", {**_GLASS, "target": "db"}, target="db")  # fmt: skip


def _taken_without_intent(f: Forge) -> None:
    f.forge("cbo", "lease", f.lease_fields(1, intent="INT-20260105-009"))


_both("lease id taken without intent", "Its id is taken, and its intent is not there.", "lease", "id_taken",
      _taken_without_intent)  # fmt: skip


# Cosignatures.


def _as_a_governor(f: Forge) -> None:
    f.forge("tok", "cosignature", {"role": "governor", "review": None}, f.it)


def _late_in_force(f: Forge) -> None:
    f.now += 3601
    f.forge("eve", "cosignature", {"role": "operator", "review": None}, fleet(f))


_both("cosignature as a governor who is none", "As governor, on a lease, by who is none.", "lease", "wrong_role",
      _as_a_governor)  # fmt: skip
_both("cosignature late on what is in force", "After approve_by of a proposal that is in force.", "lease",
      "already_in_force", _late_in_force)  # fmt: skip


def _failed_and_not_seen(f: Forge) -> None:
    head = f.common("cp14")["head"]
    f.forge("cp14", "cosignature", {"role": "sentinel", "review": f.review("cp14", f.it, "fail")}, f.it, head=head)


def _again_and_not_seen(f: Forge) -> None:
    head = f.common("cp14")["head"]
    review = f.review("cp14", f.it)
    f.vote("cp14", f.it, "sentinel", review)
    f.now += 1
    f.forge("cp14", "cosignature", {"role": "sentinel", "review": review}, f.it, head=head)


_both("cosignature on a failed review not seen", "An agent's own review failed, and its head ends before it.", "lease",
      "review_failed", _failed_and_not_seen)  # fmt: skip
_both("cosignature again before the review was seen", "An agent cosigns again, on a head before its own review.",
      "lease", "head_too_old", _again_and_not_seen)  # fmt: skip
