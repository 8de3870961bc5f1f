"""Forgeries of shapes: every field of every kind left out, of another type, or besides one that nobody knows."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

from forging import LOG_KEY, Forge, after, digest_of, key_line, policy, trust
from reject_deployments import DETAILS
from reject_law import MESSAGE
from reject_registry import add
from reject_stories import fleet_body
from terms import START

from keys.canonical import format_json
from policies.fleet import Fleet

Path = tuple[str | int, ...]


A, B = digest_of(1), digest_of(2)
MOMENT = after(START, 600)
REF = {"sha256": A, "size": 9}
SEEN = [{"tree": A, "instances": ["web-01"]}]
GATE_VALUE = {"gate": "tes", "value": "90", "requests": 1, "rest": "0.5", "rest_requests": 20}
HOST = key_line("other")
PROPOSAL = {"base": A, "reason": "a test", "approve_by": MOMENT}
ROOT = trust("ada", compromised=[{"key": key_line("other"), "position": 0}])
POLICY = policy(notify={"overdue": ["mail"]}, targets={"web": {"paths": ["app.py"]}})
GATE = POLICY["deploy_production"]["gates"][1]
GENESIS_ROOT = trust("ada", thresholds={"governors": 1, "operators": 1})

# Shapes that are right; each forgery changes one of them in one place.
GENESIS: dict[str, Any] = {
    "origin": LOG_KEY.origin,
    "log_key": str(LOG_KEY.vkey),
    "trust": GENESIS_ROOT,
    "policy": POLICY,
    "continues": {"ledger": A, "head": {"size": 2, "hash": B}},
}
SAID: dict[str, dict[str, Any]] = {
    "trust": {**PROPOSAL, "trust": ROOT},
    "policy": {**PROPOSAL, "policy": POLICY},
    "fleet": {**PROPOSAL, "fleet": REF},
    "intent": {"id": "INT-20260105-001", "target": "web", "what": "a", "why": "b"},
    "lease": {
        "id": "LEASE-20260105-000001",
        "intent": "INT-20260105-001",
        "capability": "deploy_production",
        "target": "web",
        "fleet": A,
        "policy": B,
        "rule": "two_key",
        "artifact": {"type": "patch", **REF},
        "changes": [{"before": A, "after": B, "instances": ["web-01"]}],
        "paths": ["app.py"],
        "not_before": MOMENT,
        "approve_by": MOMENT,
        "execute_by": MOMENT,
        "complete_by": MOMENT,
        "tiers": [5, 100],
        "bake_s": 30,
        "interval_s": 15,
        "gates": [GATE],
        "start": "auto",
        "promotion": "auto",
        "hooks": {"drain": None, "undrain": None},
        "reason": "a test",
    },
    "review": {"role": "sentinel", "verdict": "pass", "summary": "a", "findings": REF},
    "cosignature": {"role": "approver", "review": A},
    "objection": {"verb": "deny", "reason": "a"},
    "term": {"epoch": 1, "reason": "a"},
    "claim": {
        "type": "VERIFIED_2KEY",
        "epoch": 1,
        "counted": [1, 2],
        "cohorts": [{"tier": 100, "instances": ["web-01"]}],
        "seen": SEEN,
        "reverse": REF,
    },
    "command": {"verb": "pause", "expires_at": MOMENT, "state": A, "tier": 5, "skip_bake": False, "reason": "a"},
    "message": {"type": "answer", "to": "ada", "reply_to": A, "text": "a"},
}
TOLD: dict[str, dict[str, Any]] = {
    **DETAILS,
    "PREFLIGHT_FAILED": {"code": "a", "instance": "web-01", "text": ""},
    "BASELINE": {"values": [GATE_VALUE]},
    "SAMPLE": {"tier": 25, "n": 9, "values": [GATE_VALUE], "trees": SEEN, "raw": REF},
    "SANITY": {"verdict": "pass", "report": REF, "text": ""},
    "HALTED": {"cause": "hand", "gate": "tes", "evidence": A, "text": ""},
    "INSTANCE_RESTORED": {"instance": "web-01", "tree": A, "rebuilt": False, "warning": "a"},
    "PAUSED": {"cause": "hand", "command": A, "text": ""},
    "RESUMED": {"command": A},
    "ROLLBACK_STARTED": {"cause": "hand", "command": A},
    "ROLLBACK_FAILED": {"instances": ["web-01"], "text": ""},
    "VERDICT": {"tier": 25, "n": 1, "verdict": "pass", "gate": "tes", "text": ""},
}
INSTANCE = {
    "address": "ops@web.example:2222",
    "host_key": HOST,
    "labels": {"canary": "true"},
    "hooks": {"drain": "drain", "undrain": "drain"},
    "metrics": {
        "counters": {"url": "http://web/metrics", "requests": "requests", "errors": "errors"},
        "prometheus": {"url": "http://web:9090", "requests": None, "errors": None, "cpu": "a", "memory": "b"},
        "usage": "process",
    },
    "probe": {"url": "http://web/", "status": 200, "hook": "drain", "timeout_s": 5},
    "process": {"argv": ["/bin/web"], "env": {"A": "b"}, "user": "web", "stop_s": 5},
    "shared": ["data"],
}


def _fleet() -> Any:
    body = fleet_body(1, **INSTANCE)
    body["targets"]["web"]["tes"] = {"path": "/srv/tes.csv", "timestamp": "timestamp", "tes": "tes"}
    return Fleet.from_json(body).to_json()


FLEET = _fleet()
OBJECTS = {"fleet body": FLEET, "small fleet body": Fleet.from_json(fleet_body(2)).to_json()}


def honest_bodies(f: Forge) -> dict[str, str]:
    """The statements of which the shapes are forgeries, with nothing changed."""
    about = ("LEASE-20260105-000001", A)
    itself = {"genesis", "trust", "policy", "fleet", "intent", "lease", "term", "message"}
    bodies = {}
    for kind, fields in {"genesis": GENESIS, **SAID}.items():
        bodies[f"{kind} shape"] = f.body(
            kind, {**f.common("ada"), **fields}, None if kind in itself else about
        ).decode()
    for type_, detail in TOLD.items():
        fields = {**f.common("ada"), "epoch": 1, "detail": {"type": type_, **detail}}
        bodies[f"event {type_} shape"] = f.body("event", fields, about).decode()
    return bodies


# Objects whose members' names are data; what is in them may be left out.
MAPS = {("policy", "deploy_production", each) for each in ("hooks", "notify", "targets")} | {("targets",)}
MAP_NAMES = {"labels", "env"}


def _is_map(path: Path) -> bool:
    return path in MAPS or (bool(path) and path[-1] in MAP_NAMES)


def _walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in a value, the first of each list."""
    yield path, value
    if isinstance(value, dict):
        for name in sorted(value):
            yield from _walk(value[name], (*path, name))
    elif isinstance(value, list) and value:
        yield from _walk(value[0], (*path, 0))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _changed(value: Any, path: Path, new: Any) -> Any:
    value = deepcopy(value)
    _at(value, path[:-1])[path[-1]] = new
    return value


def _without(value: Any, path: Path) -> Any:
    value = deepcopy(value)
    del _at(value, path[:-1])[path[-1]]
    return value


def _wrong(value: Any) -> Any:
    """Something of another type."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value == 1
    return 7 if isinstance(value, str) or value is None else "x"


def _say(kind: str, fields: Any, f: Forge) -> None:
    subject = (
        ("LEASE-20260105-000001", A) if kind in {"review", "cosignature", "objection", "claim", "command"} else None
    )
    f.forge("ada", kind, fields, subject)


def _tell(detail: Any, f: Forge) -> None:
    f.forge("ada", "event", {"epoch": 1, "detail": detail}, ("LEASE-20260105-000001", A))


def _keep(body: Any, f: Forge) -> None:
    f.forge("ada", "fleet", f.proposal("fleet", f.objects.put(format_json(body)).to_json()))


def _list(name: str, what: str, moment: str, code: str, doing: Any) -> None:
    add(f"shape_{name}", what, moment, code, doing, "small")


def _spell(path: Path) -> str:
    return "_".join("item" if step == 0 else str(step) for step in path)


def _mutate(name: str, honest: Any, moment: str, say: Any, skip: Collection[Path] = ()) -> None:
    """Each field left out and of another type, and each object with a field too many. `skip`: what lies below these."""
    for path, value in _walk(honest):
        if (path[:1] in skip and len(path) > 1) or (path and path[0] == "type" and name.startswith("event")):
            continue
        where = f"{name}_{_spell(path)}" if path else name
        if path:
            bad = _changed(honest, path, _wrong(value))
            _list(
                f"{where}_of_another_type",
                f"{where}: {_wrong(value)!r} in its place.",
                moment,
                "bad_format",
                partial(say, bad),
            )
            if path[-1] != 0 and not _is_map(path[:-1]):
                _list(
                    f"{where}_left_out",
                    f"{where} is left out.",
                    moment,
                    _missing(path, name),
                    partial(say, _without(honest, path)),
                )
        if isinstance(value, dict) and not _is_map(path):
            grown = deepcopy(honest)
            _at(grown, path)["unknown"] = None
            _list(
                f"{where}_with_a_field_more",
                f"{where} has a field that is not known.",
                moment,
                "bad_format",
                partial(say, grown),
            )


DEFAULTS = {
    "labels", "reload", "probe", "metrics", "process", "shared", "hooks", "drain", "undrain", "env",
    "user", "stop_s", "kind", "argv", "timeout_s", "status", "counters", "requests", "errors", "max_unavailable", "tes",
    "timestamp", "prometheus", "usage", "cpu", "memory", "url", "hook",
}  # fmt: skip
REQUIRED = {("process", "argv"), ("counters", "url"), ("prometheus", "url")}


def _missing(path: Path, name: str) -> str:
    """What leaving out a field is called: where people's files may leave it out, the bytes are only not canonical."""
    last = tuple(step for step in path if isinstance(step, str))[-2:]
    has_default = path[-1] in DEFAULTS and last not in REQUIRED
    if name == "fleet_body" and has_default:
        return "not_canonical"
    return "not_canonical" if name == "lease" and path[-1] in {"drain", "undrain"} else "bad_format"


# What is inside of `trust` and `policy` is gone through where they are proposed.
_mutate("genesis", GENESIS, "nothing", partial(_say, "genesis"), {("trust",), ("policy",)})
for _kind, _fields in SAID.items():
    _mutate(_kind, _fields, "genesis", partial(_say, _kind))
for _type, _detail in TOLD.items():
    _mutate(f"event_{_type.lower()}", {"type": _type, **_detail}, "genesis", _tell)
_mutate("fleet_body", FLEET, "genesis", _keep)
_list(
    "event_epoch_of_another_type",
    "The epoch is true.",
    "genesis",
    "bad_format",
    partial(_say, "event", {"epoch": True, "detail": {"type": "STARTED"}}),
)
_list(
    "event_of_no_type", "The event's type is not known.", "genesis", "bad_format", partial(_tell, {"type": "FINISHED"})
)


# What every statement says.


def _common(name: str, value: Any, what: str, code: str = "bad_format") -> None:
    def doing(f: Forge) -> None:
        f.forge("ada", "message", MESSAGE, **{name: value})

    _list(f"common_{name}_{what}".replace(" ", "_"), f"{name}: {what}.", "genesis", code, doing)


for _name in ("by", "ledger", "head", "nonce", "made_at"):
    _common(_name, 7, "a number")
    _common(_name, None, "null")

    def _leave_out(f: Forge, name: str = _name) -> None:
        fields = {key: value for key, value in {**f.common("ada"), **MESSAGE}.items() if key != name}
        f.force(f.sign("ada", "message", f.body("message", fields)))

    _list(f"common_{_name}_left_out", f"{_name} is left out.", "genesis", "bad_format", _leave_out)
_common("by", "", "empty")
_common("by", "a" * 65, "too long")
_common("by", ".ada", "begins with a dot")
_common("by", "ada\n", "ends in a newline")
_common("by", "\u0430da", "in Cyrillic")
_common("ledger", A.upper(), "in capitals")
_common("ledger", A[:-1], "a digit short")
_common("nonce", "a" * 31, "a digit short")
_common("nonce", "a" * 33, "a digit too long")
_common("nonce", "A" * 32, "in capitals")
_common("made_at", "2026-02-30T09:00:00Z", "a date that does not exist")
_common("made_at", "2026-01-05T09:00:60Z", "a leap second")
_common("made_at", "2026-01-05T24:00:00Z", "hour 24")
_common("made_at", "2026-01-05 09:00:00Z", "with a space")
_common("made_at", "2026-01-05T09:00:00+00:00", "with an offset")
_common("made_at", "2026-01-05T09:00:00.0Z", "with a fraction")
_common("made_at", "2026-1-05T09:00:00Z", "a digit short")
_common("made_at", "0000-01-05T09:00:00Z", "year 0")
_common("made_at", "\u0662\u0660\u0662\u0666-01-05T09:00:00Z", "in Arabic digits")
_common("head", {"size": 0, "hash": "0" * 64}, "of nothing")
_common("head", {"size": 1}, "without a hash")
_common("head", {"size": 1, "hash": A, "more": 1}, "with a field more")
_common("head", {"size": True, "hash": A}, "of true entries")
