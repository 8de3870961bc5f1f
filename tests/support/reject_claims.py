"""Forgeries of claims: the two-key rule, step by step."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, Forge, Subject, after, key_line, names, person, policy, trust
from reject_leases import A, B, _deny, _wait
from reject_registry import add, reject
from reject_stories import fleet_body

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


@reject("genesis", "hook_not_allowed")
def claim_with_a_probe_of_another_instance(f: Forge) -> None:
    """The probe of an instance that the lease leaves alone is a command that the policy does not have."""
    body = fleet_body(4)
    body["targets"]["web"]["instances"][3]["probe"] = {"hook": "other"}
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
