"""Forgeries of what changes the law: trust roots, policies and fleets, and the quorums that they need."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, Forge, Subject, after, digest_of, key_line, person, policy, trust
from reject_law import _with_key
from reject_registry import add, reject
from reject_stories import fleet_body

from keys.canonical import format_json
from keys.openssh import format_public
from policies.fleet import Fleet


def _next_root(name: str, what: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        f.forge("ada", "trust", f.proposal("trust", change(f)))

    add(f"next_root_{name}", what, "fleet", "bad_trust_root", doing)


def _swapped(**replaced: dict[str, Any]) -> Any:
    return lambda _: trust(principals=[replaced.get(name, person(name)) for name in CAST])


_next_root(
    "key_reassigned",
    "ben's key goes to dan.",
    _swapped(ben=_with_key("ben", key_line("spare")), dan=_with_key("dan", key_line("ben"))),
)
_next_root("kind_changed", "cbo becomes an agent.", _swapped(cbo=person("cbo", kind="agent")))
_next_root(
    "kind_changed_in_other_case",
    "CBO becomes an agent; cbo was an overseer.",
    _swapped(cbo=person("cbo", kind="agent", id="CBO")),
)
_next_root(
    "compromised_later",
    "A compromise from an entry that is not there yet.",
    lambda f: trust(compromised=[{"key": key_line("other"), "position": f.head.size + 1}]),
)
_next_root("unlawful_by_itself", "A machine is operator.", _swapped(cbo=person("cbo", roles=["operator"])))


def _rotated(position: int = 2) -> dict[str, Any]:
    """A root in which ben has a new key and the old one is compromised."""
    people = [_with_key("ben", key_line("spare")) if name == "ben" else person(name) for name in CAST]
    return trust(principals=people, compromised=[{"key": key_line("ben"), "position": position}])


def _rotate(f: Forge, position: int = 2) -> None:
    f.enact("trust", _rotated(position), ("ada", "eve"))


@reject("fleet", "bad_trust_root")
def next_root_forgets_a_compromise(f: Forge) -> None:
    """A root drops what the one before listed as compromised."""
    _rotate(f)
    people = [_with_key("ben", key_line("spare")) if name == "ben" else person(name) for name in CAST]
    f.forge("ada", "trust", f.proposal("trust", trust(principals=people)))


@reject("fleet", "bad_trust_root")
def next_root_moves_a_compromise(f: Forge) -> None:
    """A root moves a compromise to a later entry."""
    _rotate(f)
    f.forge("ada", "trust", f.proposal("trust", _rotated(3)))


@reject("fleet", "bad_trust_root")
def next_root_gives_an_old_key_to_another(f: Forge) -> None:
    """A key of a root that is no longer in force goes to another principal."""
    people = [_with_key("cbo", key_line("spare")) if name == "cbo" else person(name) for name in CAST]
    f.enact("trust", trust(principals=people))
    given = [
        {**each, "keys": [{"key": key_line("cbo"), "user_verification": False}]} if each["id"] == "cp14" else each
        for each in people
    ]
    f.forge("ada", "trust", f.proposal("trust", trust(principals=given)))


# Proposals.


def _proposal(kind: str, content: Any) -> None:
    def base(f: Forge) -> None:
        f.forge("ada", kind, f.proposal(kind, content(f), base=digest_of(0)))

    def late(f: Forge) -> None:
        f.forge("ada", kind, f.proposal(kind, content(f), approve_by=after(f.now, -1)))

    def decided(f: Forge) -> None:
        f.now += 1
        it = f.enact(kind, content(f))
        f.forge("eve", "cosignature", {"role": role, "review": None}, it)

    def overtaken(f: Forge) -> None:
        f.now += 1
        void = f.say("ada", kind, f.proposal(kind, content(f), reason="another"))
        f.enact(kind, content(f))
        f.forge("ada", "cosignature", {"role": role, "review": None}, void)

    def tardy(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.now += 3601
        f.forge("ben", "cosignature", {"role": role, "review": None}, it)

    def twice(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.vote("ada", it, role)
        f.now += 1
        f.forge("ada", "cosignature", {"role": role, "review": None}, it)

    def wrong(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        other = "governor" if role == "operator" else "operator"
        f.forge("ada", "cosignature", {"role": other, "review": None}, it)

    def reviewed(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("ada", "cosignature", {"role": role, "review": digest_of(0)}, it)

    def stranger(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("tok", "cosignature", {"role": role, "review": None}, it)

    def withdrawn(f: Forge) -> None:
        f.now += 1
        it = f.enact(kind, content(f))
        f.forge("ada", "objection", {"verb": "withdraw", "reason": ""}, it)

    def denied(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("ada", "objection", {"verb": "deny", "reason": ""}, it)

    def objected(f: Forge) -> None:
        it = f.say("ada", kind, f.proposal(kind, content(f)))
        f.forge("tok", "objection", {"verb": "withdraw", "reason": ""}, it)

    role = "operator" if kind == "fleet" else "governor"
    for name, what, code, doing in (
        ("on_another_base", "is based on what is not in force", "stale_base", base),
        ("made_too_late", "is made after its own time for approval", "approval_expired", late),
        ("cosigned_when_in_force", "is cosigned once it is in force", "already_in_force", decided),
        ("cosigned_when_void", "is cosigned after another came into force", "stale_base", overtaken),
        ("cosigned_too_late", "is cosigned after its time for approval", "approval_expired", tardy),
        ("cosigned_twice", "is cosigned twice with one key", "already_cosigned", twice),
        ("cosigned_in_another_role", "is cosigned in another role", "wrong_role", wrong),
        ("cosigned_with_a_review", "is cosigned with a review", "wrong_role", reviewed),
        ("cosigned_by_a_stranger", "is cosigned by somebody without the role", "role_missing", stranger),
        ("withdrawn_when_in_force", "is withdrawn once it is in force", "already_in_force", withdrawn),
        ("denied", "is denied", "wrong_subject", denied),
        ("withdrawn_by_a_stranger", "is withdrawn by somebody without the role", "role_missing", objected),
    ):
        add(f"{kind}_{name}", f"A {kind} proposal {what}.", "fleet", code, doing)


_proposal("trust", lambda f: trust(expires="2031-01-01T00:00:00Z"))
_proposal("policy", lambda f: policy(bake_s=60))
_proposal("fleet", lambda f: f.fleet_object(fleet_body(5)))


def _uses(name: str, what: str, propose: Any) -> None:
    """A quorum that is not one: what it should bring into force is used at once."""

    def doing(f: Forge) -> None:
        it: Subject = propose(f)
        f.forge("cbo", "lease", {**f.lease_fields(1), "policy": it[1]})

    def moment(f: Forge) -> None:
        f.intent("INT-20260105-001")
        doing(f)

    add(f"quorum_{name}", what, "fleet", "stale_policy", moment)


def _one_vote(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ada", it, "governor")
    return it


def _same_custodian(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ben", it, "governor")
    f.vote("eve", it, "governor")
    return it


def _one_took_it_back(f: Forge) -> Subject:
    it = _one_vote(f)
    f.say("ada", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.vote("ben", it, "governor")
    return it


def _withdrawn_beforehand(f: Forge) -> Subject:
    it = _one_vote(f)
    head = f.common("ben")["head"]
    f.say("ben", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.say("ben", "cosignature", {"role": "governor", "review": None}, it, head=head)
    return it


def _compromised_vote(f: Forge) -> Subject:
    it = f.say("ada", "policy", f.proposal("policy", policy(bake_s=60)))
    f.vote("ben", it, "governor")
    _rotate(f, f.head.size - 1)
    f.vote("ada", it, "governor")
    return it


_uses("of_one", "A lease on a policy that one governor of two cosigned.", _one_vote)
_uses("of_one_custodian", "A lease on a policy whose two governors have one custodian.", _same_custodian)
_uses("of_a_withdrawn_vote", "A lease on a policy of which one of two cosignatures was withdrawn.", _one_took_it_back)
_uses(
    "of_a_vote_withdrawn_before",
    "A lease on a policy whose second cosignature was withdrawn before it came in.",
    _withdrawn_beforehand,
)
_uses(
    "of_a_compromised_vote",
    "A lease on a policy of which one of two cosignatures is by a compromised key.",
    _compromised_vote,
)


@reject("fleet", "stale_base")
def trust_of_the_old_quorum_alone(f: Forge) -> None:
    """A root on one that the governors in force cosigned, and its own governors did not."""
    people = [person(name, roles=["approver"]) if name == "ada" else person(name) for name in CAST]
    people = [{**each, "custodian": "eve"} if each["id"] == "eve" else each for each in people]
    it = f.say("ada", "trust", f.proposal("trust", trust(principals=people)))
    f.vote("ada", it, "governor")
    f.vote("ben", it, "governor")
    f.forge("ada", "trust", f.proposal("trust", trust(), base=it[1]))


# The fleet's body.


def _body(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        body = fleet_body(2)
        complete = _complete(body)
        change(complete)
        ref = f.objects.put(format_json(complete))
        f.forge("ada", "fleet", f.proposal("fleet", ref.to_json()))

    add(f"fleet_body_{name}", what, "genesis", code, doing)


def _complete(body: dict[str, Any]) -> Any:
    return Fleet.from_json(body).to_json()


def _instance(body: Any, number: int = 0) -> Any:
    return body["targets"]["web"]["instances"][number]


def _set(number: int, **changes: Any) -> Any:
    return lambda body: _instance(body, number).update(changes)


def _second_target(body: Any) -> None:
    body["targets"]["WEB"] = {**body["targets"]["web"], "instances": [{**_instance(body), "root": "/elsewhere"}]}


HOST = format_public(KEYS["other"].public)
_body("names_twice", "Two instances are called web-01 and WEB-01.", "bad_format", _set(1, name="WEB-01"))
_body("one_place", "Two instances are in one place.", "bad_format", _set(1, root="/srv/web-01"))
_body("targets_twice", "Two targets are called web and WEB.", "bad_format", _second_target)
_body("host_key_of_local", "An instance on this machine has a host key.", "bad_format", _set(0, host_key=HOST))
_body("no_host_key", "An instance elsewhere has no host key.", "bad_format", _set(0, address="ops@web.example"))
_body(
    "restart_with_argv",
    "A restart has a command line.",
    "bad_format",
    _set(0, reload={"kind": "restart", "argv": ["x"], "timeout_s": 5}),
)
_body(
    "command_without_argv",
    "A reload by command has no command line.",
    "bad_format",
    _set(0, reload={"kind": "command", "argv": [], "timeout_s": 5}),
)
_body(
    "command_with_process",
    "A reload by command has a process.",
    "bad_format",
    _set(
        0,
        reload={"kind": "command", "argv": ["x"], "timeout_s": 5},
        process={"argv": ["x"], "env": {}, "stop_s": 1, "user": None},
    ),
)
_asked: dict[str, Any] = {"url": "http://web:9090", "requests": None, "errors": None, "cpu": "a", "memory": None}
_counters = {"url": "http://web/", "requests": "requests", "errors": "errors"}
for _name, _what, _counted, _queries in (
    ("requests_without_errors", "A Prometheus is asked for requests and not for errors.", None, {"requests": "a"}),
    ("nothing_asked", "A Prometheus is asked for nothing.", None, {"cpu": None}),
    ("counted_twice", "Requests are counted in two places.", _counters, {"requests": "a", "errors": "b"}),
):
    _metrics = {"counters": _counted, "prometheus": {**_asked, **_queries}, "usage": "host"}
    _body(_name, _what, "bad_format", _set(0, metrics=_metrics))
_probe: dict[str, Any] = {"url": None, "status": 200, "hook": None, "timeout_s": 5}
_body("probe_of_nothing", "A probe has neither a URL nor a command.", "bad_format", _set(0, probe=_probe))
_body(
    "status_of_a_command",
    "A probe has a status and no URL.",
    "bad_format",
    _set(0, probe={**_probe, "status": 204, "hook": "drain"}),
)
_body("shared_twice", "A shared path stands twice.", "bad_format", _set(0, shared=["data", "data"]))
_body("shared_below", "A shared path lies below another.", "bad_format", _set(0, shared=["data", "data-b", "data/a"]))
_body(
    "default_left_out",
    "A field that has a default is left out.",
    "not_canonical",
    lambda body: _instance(body).pop("labels"),
)


@reject("genesis", "not_canonical")
def fleet_body_with_white_space(f: Forge) -> None:
    """The body has a space behind a colon."""
    data = format_json(_complete(fleet_body(2))).replace(b":", b": ", 1)
    f.forge("ada", "fleet", f.proposal("fleet", f.objects.put(data).to_json()))


@reject("genesis", "object_missing")
def fleet_body_missing(f: Forge) -> None:
    """The body is nowhere."""
    f.forge("ada", "fleet", f.proposal("fleet", {"sha256": digest_of(0), "size": 9}))


@reject("genesis", "object_mismatch")
def fleet_body_of_another_size(f: Forge) -> None:
    """The body has another size than its reference says."""
    ref = f.fleet_object()
    f.forge("ada", "fleet", f.proposal("fleet", {**ref, "size": ref["size"] + 1}))


@reject("genesis", "too_large")
def fleet_body_too_large(f: Forge) -> None:
    """The body is said to have a byte more than 64 MiB."""
    f.forge("ada", "fleet", f.proposal("fleet", {"sha256": digest_of(0), "size": 64 * 2**20 + 1}))
