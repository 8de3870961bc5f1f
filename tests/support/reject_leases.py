"""Forgeries of leases, of what is said about them, and of claims: the two-key rule, step by step."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, TOKEN, Forge, Subject, after, digest_of, key_line, names, person, policy, trust
from reject_law import MESSAGE
from reject_registry import add, reject
from reject_stories import fleet_body

from keys.canonical import format_json
from ledger.envelope import Envelope, pae
from ledger.verified import namespace_of

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


def _cosign(
    name: str,
    what: str,
    moment: str,
    code: str,
    who: str,
    prepare: Any = None,
    review: Any = None,
    role: str | None = None,
    story: str = "main",
) -> None:
    def doing(f: Forge) -> None:
        named = prepare(f) if prepare is not None else None
        cited = named if review == "given" else review
        f.forge(who, "cosignature", {"role": role or CAST[who][2][0], "review": cited}, f.it)

    add(f"cosigned_{name}", what, moment, code, doing, story)


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


# Claims.


def _claim(
    name: str, what: str, code: str, prepare: Any, moment: str = "term", story: str = "main", **changes: Any
) -> None:
    def doing(f: Forge) -> None:
        it: Subject = prepare(f) or f.it
        f.forge("cp20", "claim", f.claim_fields(it, **changes), it)

    add(f"claim_{name}", what, moment, code, doing, story)


def _terms(**changes: Any) -> Any:
    """A policy with these terms in force, and a lease with both keys that does not keep them. `lease`: what it says."""
    lease = changes.pop("lease", {})

    def prepare(f: Forge) -> Subject:
        phases = changes.pop("phases", None)
        content = policy(**changes)
        f.enact("policy", content if phases is None else {**content, "phases": {**content["phases"], **phases}})
        it = f.lease(1, **lease)
        f.approve(it)
        return it

    return prepare


def _overtaken(kind: str) -> Any:
    def prepare(f: Forge) -> None:
        f.now += 1
        f.enact(kind, policy(bake_s=31) if kind == "policy" else f.fleet_object(fleet_body(5)))

    return prepare


PHASE: dict[str, Any] = {"name": "deploy", "status": "implemented", "capabilities": []}
_claim(
    "on_a_policy_overtaken", "Another policy came into force since.", "stale_policy", _overtaken("policy"), "approved"
)
_claim("on_a_fleet_overtaken", "Another fleet came into force since.", "stale_fleet", _overtaken("fleet"), "approved")
_claim("of_what_is_disabled", "The policy disables deployments.", "capability_disabled", _terms(enabled=False))
_claim(
    "of_a_pending_phase",
    "Phase 3 is pending.",
    "capability_disabled",
    _terms(phases={"3": {**PHASE, "status": "pending", "capabilities": ["deploy_production"]}}),
)
_claim(
    "of_what_is_not_listed",
    "Phase 3 lists another capability.",
    "capability_disabled",
    _terms(phases={"3": {**PHASE, "capabilities": ["deploy"]}}),
)
_claim(
    "of_a_target_not_allowed",
    "The policy does not list the target.",
    "target_not_allowed",
    _terms(targets={"db": {"paths": ["app.py"]}}),
)
_claim(
    "of_a_path_not_allowed",
    "A path is not the policy's.",
    "path_not_allowed",
    _terms(lease={"paths": ["app.py", "setup.py"]}),
)
_claim(
    "of_a_path_like_a_prefix",
    "A path begins like a prefix, and does not lie below it.",
    "path_not_allowed",
    _terms(lease={"paths": ["static.py"]}),
)
_claim(
    "of_a_path_below_a_file",
    "A path lies below an exact one.",
    "path_not_allowed",
    _terms(lease={"paths": ["app.py/x"]}),
)
_claim("without_gates", "It has no gate.", "gates_differ", _terms(lease={"gates": []}))
_claim("without_a_tier", "It leaves out a tier of the policy.", "tiers_missing", _terms(lease={"tiers": [5, 100]}))
_claim("with_a_short_bake", "It bakes a second less.", "bake_too_short", _terms(lease={"bake_s": 29}))
_claim("with_a_long_interval", "Its interval is a second more.", "interval_too_long", _terms(lease={"interval_s": 16}))
_claim(
    "starting_by_itself",
    "It starts by itself where the policy asks for an order.",
    "start_differs",
    _terms(start="command", lease={"start": "auto"}),
)
_claim(
    "promoting_by_itself",
    "It is promoted by itself where the policy asks for an order.",
    "promotion_differs",
    _terms(promotion="manual", lease={"promotion": "auto"}),
)
_claim(
    "with_a_hook",
    "It asks for a hook that the policy does not have.",
    "hook_not_allowed",
    _terms(lease={"hooks": {"drain": "drain", "undrain": "other"}}),
)
_claim(
    "with_glass_disabled",
    "Break-glass is disabled.",
    "break_glass_disabled",
    _terms(
        break_glass={"enabled": False, "max_validity_s": 900, "review_within_s": 1, "user_verification": False},
        lease={"rule": "break_glass"},
    ),
)
_claim(
    "with_glass_too_long",
    "Break-glass is valid for a second too long.",
    "break_glass_too_long",
    _terms(
        break_glass={"enabled": True, "max_validity_s": 899, "review_within_s": 1, "user_verification": False},
        lease={"rule": "break_glass"},
    ),
)
_claim("too_late", "It comes a second after execute_by.", "lease_expired", _wait(901), "approved")


@reject("genesis", "hook_not_allowed")
def claim_with_a_hook_of_another_instance(f: Forge) -> None:
    """An instance of the target that the lease leaves alone has a hook that the policy does not have."""
    body = fleet_body(4)
    body["targets"]["web"]["instances"][3]["hooks"] = {"drain": "other"}
    f.enact("fleet", f.fleet_object(body))
    f.term()
    it = f.lease(1, changes=[{"before": A, "after": B, "instances": names(3)}])
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


def _early(f: Forge) -> Subject:
    it = f.lease(1, not_before=after(f.now, 1))
    f.approve(it)
    return it


def _expired(f: Forge) -> Subject:
    f.enact("trust", trust(expires=after(f.now, 10)))
    it = f.lease(1)
    f.approve(it)
    f.now += 11
    return it


def _keys(*votes: str, who: str = "cbo", role_of: dict[str, str] | None = None, **lease: Any) -> Any:
    """A lease that these cosigned, agents with a passing review."""

    def prepare(f: Forge) -> Subject:
        it = f.lease(1, who, **lease)
        for each in votes:
            role = (role_of or {}).get(each, CAST[each][2][0])
            agent = CAST[each][0] == "agent"
            f.vote(each, it, role, f.review(each, it) if agent else None)
        return it

    return prepare


def _withdraw_all(f: Forge) -> None:
    for who in ("ada", "cp14"):
        f.say(who, "objection", {"verb": "withdraw", "reason": ""}, f.it)


def _root_without(*gone: str, compromised: int | None = None, roles: list[str] | None = None) -> Any:
    """A root in which these hold other keys (or other roles), and the old ones are compromised from an entry on."""

    def prepare(f: Forge) -> None:
        f.now += 1
        people = []
        for name in CAST:
            spare = {"ada": "spare", "cp14": "other"}.get(name, name)
            fresh = [{"key": key_line(spare), "user_verification": False}]
            changed = {"roles": roles} if roles is not None else {"keys": fresh}
            people.append(person(name, **changed) if name in gone else person(name))
        marked = [] if compromised is None else [{"key": key_line(name), "position": compromised} for name in gone]
        it = f.say("ben", "trust", f.proposal("trust", trust(principals=people, compromised=marked)))
        f.vote("ben", it, "governor")
        f.vote("ada", it, "governor")
        if f.state.trust_digest != it[1]:
            f.say("ada", "cosignature", {"role": "governor", "review": None}, it, KEYS["spare"])
        assert f.state.trust_digest == it[1]

    return prepare


_claim("too_early", "It comes a second before not_before.", "too_early", _early)
_claim("under_an_expired_root", "The trust root has expired.", "trust_expired", _expired)
_claim("with_no_key", "Nobody cosigned.", "quorum_unmet", _keys())
_claim("with_one_key_of_a_person", "Only a person cosigned.", "quorum_unmet", _keys("ada"))
_claim("with_one_key_of_an_agent", "Only an agent cosigned.", "quorum_unmet", _keys("cp14"))
_claim("with_two_people", "Two people cosigned, and no agent.", "quorum_unmet", _keys("ada", "ben"))
_claim("with_two_agents", "Two agents cosigned, and no person.", "quorum_unmet", _keys("cp14", "cp18"))
_claim(
    "with_the_proposer", "The only person that cosigned proposed it.", "quorum_unmet", _keys("dan", "cp14", who="dan")
)
_claim("with_one_custodian", "The two that cosigned have one custodian.", "quorum_unmet", _keys("ada", "cp14b"))
_claim(
    "of_glass_with_one_custodian",
    "The two people that broke the glass have one custodian.",
    "quorum_unmet",
    _keys("ben", "eve", rule="break_glass"),
)
_claim(
    "of_glass_with_an_agent",
    "A person and an agent broke the glass.",
    "quorum_unmet",
    _keys("ada", "cp14", rule="break_glass"),
)
_claim(
    "of_glass_with_the_proposer",
    "One of the two that broke the glass proposed it.",
    "quorum_unmet",
    _keys("ada", "dan", who="dan", rule="break_glass"),
)
_claim("of_glass_with_one_person", "One person broke the glass.", "quorum_unmet", _keys("ada", rule="break_glass"))
_claim("withdrawn", "Both cosignatures were withdrawn.", "withdrawn", _withdraw_all, "approved")
_claim(
    "of_one_withdrawn",
    "One of the two cosignatures was withdrawn.",
    "quorum_unmet",
    lambda f: f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, f.it) and None,
    "approved",
)
_claim("of_keys_gone", "Both keys were replaced since.", "role_missing", _root_without("ada", "cp14"), "approved")
_claim(
    "of_keys_compromised",
    "Both keys were compromised before they cosigned.",
    "key_compromised",
    _root_without("ada", "cp14", compromised=3),
    "approved",
)
_claim("denied", "The lease was denied after both keys.", "lease_denied", _deny, "approved")
_claim("twice", "It was claimed before.", "lease_consumed", lambda f: None, "completed")
_claim(
    "with_a_review_that_failed",
    "Another sentinel's review failed.",
    "review_failed",
    lambda f: f.review("cp14b", f.it, "fail") and None,
    "approved",
)
_claim(
    "without_a_review_asked_for",
    "The policy asks for a validator's review, too.",
    "review_missing",
    lambda f: None,
    "approved",
    "manual",
)


@reject("approved", "quorum_unmet")
def claim_with_a_custodian_of_today(f: Forge) -> None:
    """Since they cosigned, a root gave both keys one custodian."""
    f.now += 1
    f.enact("trust", trust(principals=[person(n, custodian="cp14") if n == "ada" else person(n) for n in CAST]))
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("term", "quorum_unmet")
def claim_with_a_proposer_respelled(f: Forge) -> None:
    """The proposer, in another spelling and with another key and custodian, is the one who approves."""
    it = f.lease(1, "dan")
    people = [person(n) for n in CAST if n != "dan"]
    other = {
        **person("dan"),
        "id": "DAN",
        "custodian": "other",
        "keys": [{"key": key_line("spare"), "user_verification": False}],
    }
    f.enact("trust", trust(principals=[*people, other]))
    body = f.body("cosignature", {**f.common("DAN"), "role": "approver", "review": None}, it)
    f.put(f.sign("dan", "cosignature", body, KEYS["spare"]))
    f.vote("cp14", it, "sentinel", f.review("cp14", it))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "target_busy")
def claim_of_a_busy_target(f: Forge) -> None:
    """The target has a live deployment."""
    it = f.lease(2)
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "target_busy")
def claim_of_a_busy_place(f: Forge) -> None:
    """Another target has a live deployment where this one's instances are, under an older fleet."""
    body = fleet_body(4)
    body["targets"]["db"] = body["targets"].pop("web")
    f.enact("policy", policy(targets={"db": {"paths": ["app.py"]}}))
    f.enact("fleet", f.fleet_object(body))
    it = f.lease(2, target="db")
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "review_overdue", "glass")
def claim_while_a_review_is_overdue(f: Forge) -> None:
    """A broken glass was not reviewed in time."""
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")
    f.now += 86_401
    it = f.lease(2)
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


def _hardware(verified_then: bool, asked_now: bool, flags: int) -> Any:
    """Break-glass where the policy asks for a token that verified its user."""

    def prepare(f: Forge) -> Subject:
        glass = {"enabled": True, "max_validity_s": 900, "review_within_s": 60, "user_verification": True}
        f.enact("policy", policy(break_glass=glass))
        if verified_then:
            f.enact("trust", _asking(True))
        it = f.lease(1, rule="break_glass")
        body = f.body("cosignature", {**f.common("tok"), "role": "approver", "review": None}, it)
        sig = TOKEN.sign(namespace_of("cosignature"), pae(body), flags=flags)
        f.put(Envelope(body, f.sign("tok", "cosignature", body).keyid, sig))
        f.vote("ada", it, "approver")
        if asked_now != verified_then:
            f.enact("trust", _asking(asked_now))
        return it

    return prepare


def _asking(verification: bool) -> dict[str, Any]:
    keys = [{"key": key_line("tok"), "user_verification": verification}]
    return trust(principals=[person(n, keys=keys) if n == "tok" else person(n) for n in CAST])


_claim(
    "of_glass_without_verification",
    "The policy asks for user verification, the root does not.",
    "quorum_unmet",
    _hardware(False, False, 5),
)
_claim(
    "of_glass_verified_by_chance",
    "The root asks the token to verify its user since; the cosignature was not checked for it.",
    "quorum_unmet",
    _hardware(False, True, 5),
)
_claim(
    "of_glass_no_longer_verified",
    "The root no longer asks the token to verify its user.",
    "quorum_unmet",
    _hardware(True, False, 5),
)

# What a claim says.


def _says(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        fields = f.claim_fields(f.it)
        f.forge("cp20", "claim", {**fields, **change(fields)}, f.it)

    add(f"claim_says_{name}", what, "approved", code, doing)


def _turned(cohorts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**cohort, "instances": cohort["instances"][::-1]} for cohort in cohorts]


_says("another_epoch", "Its epoch is the next one.", "fenced", lambda c: {"epoch": c["epoch"] + 1})
_says(
    "counted_turned",
    "The two that count stand in the other order.",
    "wrong_count",
    lambda c: {"counted": c["counted"][::-1]},
)
_says(
    "counted_another",
    "It counts an entry that is no cosignature.",
    "wrong_count",
    lambda c: {"counted": [1, c["counted"][1]]},
)
_says(
    "cohorts_turned", "A cohort stands in another order.", "wrong_cohorts", lambda c: {"cohorts": _turned(c["cohorts"])}
)
_says(
    "tiers_unmerged",
    "A tier that reaches no further stands by itself.",
    "wrong_cohorts",
    lambda c: {"cohorts": [{"tier": 5, "instances": []}, *c["cohorts"]]},
)
_says(
    "a_lower_tier",
    "A merged tier has the lower number.",
    "wrong_cohorts",
    lambda c: {"cohorts": [{**c["cohorts"][0], "tier": 5}, *c["cohorts"][1:]]},
)
_says("a_cohort_less", "The last cohort is missing.", "wrong_cohorts", lambda c: {"cohorts": c["cohorts"][:1]})
_says(
    "another_cohort",
    "The first instance of two tiers is exchanged.",
    "wrong_cohorts",
    lambda c: {
        "cohorts": [
            {**c["cohorts"][0], "instances": c["cohorts"][1]["instances"][:1]},
            {**c["cohorts"][1], "instances": [*c["cohorts"][0]["instances"], *c["cohorts"][1]["instances"][1:]]},
        ]
    },
)
_says(
    "seen_twice",
    "An instance was seen twice.",
    "bad_claim",
    lambda c: {"seen": [*c["seen"], {"tree": A, "instances": ["web-01"]}]},
)
_says(
    "seen_another_tree",
    "An instance was seen on another tree.",
    "base_moved",
    lambda c: {"seen": [{"tree": C, "instances": names(4)}]},
)
_says("seen_less", "An instance was not seen.", "base_moved", lambda c: {"seen": [{"tree": A, "instances": names(3)}]})
_says(
    "seen_more",
    "An instance was seen that the lease leaves alone.",
    "base_moved",
    lambda c: {"seen": [{"tree": A, "instances": names(5)}]},
)


@reject("approved", "fenced")
def claim_by_another_executor(f: Forge) -> None:
    """The newest term is another executor's."""
    f.forge("cp20b", "claim", {**f.claim_fields(f.it)}, f.it)


@reject("approved", "wrong_count")
def claim_counts_a_later_pair(f: Forge) -> None:
    """It counts a pair that was complete later."""
    later = f.vote("ben", f.it, "approver")
    votes = f.state.leases[f.it[1]].ballot.votes
    agent = next(vote.seq for vote in votes if vote.role == "sentinel")
    human = next(vote.seq for vote in votes if vote.digest == later[1])
    f.forge("cp20", "claim", f.claim_fields(f.it, counted=[agent, human]), f.it)


@reject("claimed", "fenced")
def deposed_executor_goes_on(f: Forge) -> None:
    """An executor tells of a deployment after another took over."""
    f.term("cp20b")
    f.forge("cp20", "event", {"epoch": 1, "detail": {"type": "STARTED"}}, f.it)
