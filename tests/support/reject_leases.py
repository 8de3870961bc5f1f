"""Forgeries of leases, and of what is said about them before their claim."""

from __future__ import annotations

from typing import Any

from forging import CAST, Forge, after, digest_of, person, trust
from reject_law import MESSAGE
from reject_registry import add, reject

from keys.canonical import format_json

# Leases.


def _lease(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        f.intent("INT-20260105-001")
        changes = change(f) if callable(change) else change
        f.forge("cbo", "lease", {**f.lease_fields(1), **changes})

    add(f"lease_{name}", what, "fleet", code, doing)


def _changes(*groups: tuple[str, str, list[str]]) -> dict[str, Any]:
    return {"changes": [{"before": before, "after": later, "instances": who} for before, later, who in groups]}


A, B, C = digest_of(1), digest_of(2), digest_of(3)
_lease("id_of_no_form", "Its id has no time of day.", "bad_id", {"id": "LEASE-20260105"})
_lease("id_like_an_intent", "Its id is an intent's.", "bad_id", {"id": "INT-20260105-002"})
_lease("without_intent", "Its intent is not in the ledger.", "unknown_intent", {"intent": "INT-20260105-009"})
_lease("for_another_target", "Its intent is for another target.", "wrong_target", {"target": "db"})
_lease("of_another_capability", "It asks for another capability.", "unknown_capability", {"capability": "deploy"})
_lease("on_another_policy", "Its policy is not in force.", "stale_policy", {"policy": digest_of(0)})
_lease("on_another_fleet", "Its fleet is not in force.", "stale_fleet", {"fleet": digest_of(0)})
_lease(
    "begins_after_its_end",
    "not_before is after execute_by.",
    "bad_windows",
    lambda f: {"not_before": after(f.now, 901)},
)
_lease(
    "approved_after_its_end",
    "approve_by is after execute_by.",
    "bad_windows",
    lambda f: {"approve_by": after(f.now, 901)},
)
_lease(
    "completed_before_its_end",
    "execute_by is after complete_by.",
    "bad_windows",
    lambda f: {"complete_by": after(f.now, 899)},
)
_lease(
    "over",
    "execute_by is over.",
    "lease_expired",
    lambda f: dict.fromkeys(("not_before", "approve_by", "execute_by"), after(f.now, -1)),
)
_lease("tiers_fall", "Its tiers do not rise.", "bad_tiers", {"tiers": [25, 5, 100]})
_lease("tier_twice", "A tier stands twice.", "bad_tiers", {"tiers": [5, 25, 25, 100]})
_lease("tiers_end_early", "Its tiers end at 99.", "bad_tiers", {"tiers": [5, 25, 99]})
_lease(
    "glass_without_reason", "Break-glass without a reason.", "reason_missing", {"rule": "break_glass", "reason": None}
)
_lease(
    "glass_with_an_empty_reason",
    "Break-glass with an empty reason.",
    "reason_missing",
    {"rule": "break_glass", "reason": ""},
)
_lease("unknown_instance", "An instance is not in the fleet.", "unknown_instance", _changes((A, B, ["web-09"])))
_lease(
    "instance_twice", "An instance stands twice in one change.", "bad_changes", _changes((A, B, ["web-01", "web-01"]))
)
_lease(
    "instance_in_two_changes",
    "An instance stands in two changes.",
    "bad_changes",
    _changes((A, B, ["web-01"]), (C, B, ["web-01"])),
)
_lease(
    "same_change_twice",
    "Two changes have the same trees.",
    "bad_changes",
    _changes((A, B, ["web-01"]), (A, B, ["web-02"])),
)
_lease("no_change", "A change leads from a tree to itself.", "bad_changes", _changes((B, B, ["web-01"])))
_lease(
    "no_change_of_two",
    "Of two changes one leads from a tree to itself.",
    "bad_changes",
    _changes((A, B, ["web-01"]), (B, B, ["web-02"])),
)
_lease("no_instance", "Its changes name no instance.", "bad_changes", _changes((A, B, [])))
_lease("paths_not_sorted", "Its paths are not sorted.", "bad_format", {"paths": ["b", "a"]})
_lease("path_twice", "A path stands twice.", "bad_format", {"paths": ["a", "a"]})
_lease("path_with_dots", "A path leads upward.", "bad_format", {"paths": ["static/../etc"]})
_lease("path_absolute", "A path begins with a slash.", "bad_format", {"paths": ["/etc"]})
_lease("path_empty_segment", "A path has an empty segment.", "bad_format", {"paths": ["a//b"]})
_lease(
    "paths_sorted_by_code_units",
    "Its paths are sorted by UTF-16 units, and not by bytes.",
    "bad_format",
    {"paths": ["\U00010000", "\uffff"]},
)
_lease(
    "directory_of_another_tree",
    "A directory that is not the tree after a change.",
    "bad_changes",
    lambda f: {"artifact": {"type": "directory", **f.objects.put(b"[]").to_json()}},
)
_lease(
    "directory_of_the_tree_of_one_change",
    "A directory that is the tree after one of two changes.",
    "bad_changes",
    lambda f: {
        **_changes((A, f.objects.put(b"[]").sha256, ["web-01"]), (A, B, ["web-02"])),
        "artifact": {"type": "directory", **f.objects.put(b"[]").to_json()},
    },
)


@reject("fleet", "unknown_target")
def lease_on_a_target_that_the_fleet_lacks(f: Forge) -> None:
    """Its target is in the policy and not in the fleet."""
    f.intent("INT-20260105-001", "db")
    f.forge("cbo", "lease", f.lease_fields(1, target="db"))


@reject("genesis", "unknown_target")
def lease_before_any_fleet(f: Forge) -> None:
    """A lease where no fleet was ever in force, on a fleet of zeros."""
    f.intent("INT-20260105-001")
    f.forge("cbo", "lease", f.lease_fields(1))


@reject("lease", "id_taken")
def lease_id_taken_in_other_case(f: Forge) -> None:
    """Its id is that of an earlier lease."""
    f.intent("INT-20260105-002")
    f.forge("cbo", "lease", f.lease_fields(1, intent="INT-20260105-002"))


@reject("lease", "id_taken")
def intent_id_taken(f: Forge) -> None:
    """An intent's id stands twice."""
    f.forge("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})


@reject("fleet", "bad_id")
def intent_id_with_a_letter(f: Forge) -> None:
    """An intent's number has a letter."""
    f.forge("cbo", "intent", {"id": "INT-20260105-00a", "target": "web", "what": "", "why": ""})


def _list_object(name: str, what: str, code: str, field: str, data: Any) -> None:
    def doing(f: Forge) -> None:
        ref = data if isinstance(data, dict) else f.objects.put(data).to_json()
        changes = {"paths": ref} if field == "paths" else {"changes": [{"before": A, "after": B, "instances": ref}]}
        f.intent("INT-20260105-001")
        f.forge("cbo", "lease", {**f.lease_fields(1), **changes})

    add(f"{field}_object_{name}", what, "fleet", code, doing)


for _field, _items in (("names", ["web-01"]), ("paths", ["a", "b"])):
    _list_object("missing", f"The list of {_field} is nowhere.", "object_missing", _field, {"sha256": A, "size": 9})
    _list_object(
        "too_large",
        f"The list of {_field} has a byte more than 16 MiB.",
        "too_large",
        _field,
        {"sha256": A, "size": 2**24 + 1},
    )
    _list_object(
        "as_large_as_can_be",
        f"The list of {_field} is nowhere, and has 16 MiB.",
        "object_missing",
        _field,
        {"sha256": A, "size": 2**24},
    )
    _list_object(
        "not_canonical", f"The list of {_field} has a space.", "not_canonical", _field, b'["web-01", "web-02"]'
    )
    _list_object("no_list", f"The list of {_field} is an object.", "bad_format", _field, b"{}")
    _list_object("of_numbers", f"The list of {_field} is one of numbers.", "bad_format", _field, b"[1]")
_list_object("of_no_ids", "A name in the list is no id.", "bad_format", "names", format_json(["web 01"]))
_list_object("not_sorted", "The paths in the list are not sorted.", "bad_format", "paths", format_json(["b", "a"]))
_list_object("with_dots", "A path in the list leads upward.", "bad_format", "paths", format_json(["../a"]))
_list_object("with_an_empty_path", "A path in the list is empty.", "bad_format", "paths", format_json([""]))


# Reviews, cosignatures, objections, messages, terms.


@reject("reviewed", "already_reviewed")
def reviewed_twice(f: Forge) -> None:
    """An agent reviews a lease twice."""
    f.forge("cp14", "review", {"role": "sentinel", "verdict": "fail", "summary": "", "findings": None}, f.it)


@reject("claimed", "lease_consumed")
def reviewed_after_the_claim(f: Forge) -> None:
    """An agent reviews a lease that was claimed and owes no review."""
    f.forge("cp18", "review", {"role": "validator", "verdict": "pass", "summary": "", "findings": None}, f.it)


@reject("claimed", "lease_consumed", "glass")
def reviewed_late_and_twice(f: Forge) -> None:
    """A second late review of a broken glass, when the first one settled what was owed."""
    f.review("cp14", f.it)
    f.forge("cp18", "review", {"role": "validator", "verdict": "pass", "summary": "", "findings": None}, f.it)


@reject("lease", "already_reviewed")
def reviewed_twice_in_another_spelling(f: Forge) -> None:
    """An agent whose review failed reviews again as CP14, as which a root has it since."""
    f.review("cp14", f.it, "fail")
    f.now += 1
    f.enact("trust", trust(principals=[person(n, id="CP14") if n == "cp14" else person(n) for n in CAST]))
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    f.forge("cp14", "review", fields, f.it, by="CP14")


def _cosign(
    name: str,
    what: str,
    moment: str,
    code: str,
    who: str,
    prepare: Any = None,
    review: Any = None,
    *,
    role: str | None = None,
) -> None:
    def doing(f: Forge) -> None:
        named = prepare(f) if prepare is not None else None
        cited = named if review == "given" else review
        f.forge(who, "cosignature", {"role": role or CAST[who][2][0], "review": cited}, f.it)

    add(f"cosigned_{name}", what, moment, code, doing)


def _wait(seconds: int) -> Any:
    def prepare(f: Forge) -> None:
        f.now += seconds

    return prepare


def _deny(f: Forge) -> None:
    f.say("dan", "objection", {"verb": "deny", "reason": "a test"}, f.it)


_cosign("after_the_claim", "A lease is cosigned after its claim.", "claimed", "lease_consumed", "ben")
_cosign("after_a_denial", "A lease is cosigned after it was denied.", "lease", "lease_denied", "ben", _deny)
_cosign("too_late", "A lease is cosigned a second after approve_by.", "lease", "approval_expired", "ben", _wait(601))
_cosign("as_governor", "A lease is cosigned in the role of governor.", "lease", "wrong_role", "ben", role="governor")
_cosign(
    "twice", "A lease is cosigned twice with one key.", "approved", "already_cosigned", "ada", _wait(1), role="approver"
)
_cosign(
    "by_a_person_with_a_review",
    "An approver names a review.",
    "reviewed",
    "wrong_review",
    "ada",
    review=A,
    role="approver",
)
_cosign("without_a_review", "An agent names no review.", "reviewed", "wrong_review", "cp14")
_cosign(
    "with_another_review", "An agent names a digest that is no review.", "reviewed", "wrong_review", "cp14", review=A
)
_cosign(
    "with_a_review_of_another",
    "An agent names another agent's review.",
    "lease",
    "wrong_review",
    "cp14b",
    lambda f: f.review("cp14", f.it),
    "given",
)
_cosign(
    "on_a_failed_review",
    "An agent names its own review, which failed.",
    "lease",
    "review_failed",
    "cp14",
    lambda f: f.review("cp14", f.it, "fail"),
    "given",
)


@reject("lease", "approval_expired")
def cosigned_late_by_its_own_time(f: Forge) -> None:
    """A lease is cosigned in time by the record, and after approve_by by its own made_at."""
    f.now += 600
    f.forge("ben", "cosignature", {"role": "approver", "review": None}, f.it, made_at=after(f.now, 1))


@reject("lease", "head_too_old")
def cosigned_before_the_review_was_seen(f: Forge) -> None:
    """An agent's head ends before its own review."""
    head = f.common("cp14")["head"]
    review = f.review("cp14", f.it)
    f.forge("cp14", "cosignature", {"role": "sentinel", "review": review}, f.it, head=head)


@reject("claimed", "lease_consumed")
def denied_after_the_claim(f: Forge) -> None:
    """A lease is denied after its claim."""
    f.forge("ada", "objection", {"verb": "deny", "reason": ""}, f.it)


@reject("claimed", "lease_consumed")
def withdrawn_after_the_claim(f: Forge) -> None:
    """A cosignature is withdrawn after the claim."""
    f.forge("ada", "objection", {"verb": "withdraw", "reason": ""}, f.it)


@reject("fleet", "unknown_subject")
def answer_to_nothing(f: Forge) -> None:
    """A message answers one that is not in the ledger."""
    f.forge("cbo", "message", {**MESSAGE, "type": "answer", "reply_to": A})


@reject("fleet", "unknown_subject")
def answer_to_what_was_not_seen(f: Forge) -> None:
    """A message answers one that its signer's head does not hold."""
    head = f.common("ada")["head"]
    said = f.say("ada", "message", MESSAGE)
    f.forge("cbo", "message", {**MESSAGE, "type": "answer", "reply_to": said[1]}, head=head)


@reject("fleet", "unknown_principal")
def message_to_nobody(f: Forge) -> None:
    """A message is addressed to a principal that is in no root."""
    f.forge("ada", "message", {**MESSAGE, "to": "nobody"})


@reject("fleet", "wrong_epoch")
def first_term_is_two(f: Forge) -> None:
    """The first epoch is 2."""
    f.forge("cp20", "term", {"epoch": 2, "reason": ""})


@reject("term", "wrong_epoch")
def term_again(f: Forge) -> None:
    """An epoch stands twice."""
    f.forge("cp20b", "term", {"epoch": 1, "reason": ""})


@reject("term", "wrong_epoch")
def term_left_out(f: Forge) -> None:
    """An epoch is left out."""
    f.forge("cp20b", "term", {"epoch": 3, "reason": ""})
