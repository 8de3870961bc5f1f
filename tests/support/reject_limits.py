"""Forgeries of shapes: every field past its limit, and every value in another spelling."""

from __future__ import annotations

from functools import partial
from typing import Any

from forging import digest_of, key_line
from reject_shapes import (
    FLEET,
    GATE,
    GATE_VALUE,
    GENESIS,
    SAID,
    TOLD,
    A,
    Path,
    _changed,
    _keep,
    _list,
    _say,
    _spell,
    _tell,
)

# Limits.


def _limit(kind: str, path: str, value: Any, what: str) -> None:
    steps: Path = tuple(int(step) if step.isdigit() and "phases" not in path else step for step in path.split("."))
    honest = {"genesis": GENESIS, "fleet_body": FLEET}.get(kind) or SAID.get(kind) or {"type": kind, **TOLD[kind]}
    bad = _changed(honest, steps, value)
    say: Any = partial(_say, kind, bad) if kind in SAID or kind == "genesis" else partial(_tell, bad)
    say = partial(_keep, bad) if kind == "fleet_body" else say
    name = f"limit_{kind.lower()}_{_spell(steps)}_{what}".replace(" ", "_")
    _list(name, f"{kind} {path}: {what}.", "nothing" if kind == "genesis" else "genesis", "bad_format", say)


def _bounds(kind: str, path: str, low: int | None, high: int | None, text: bool = False) -> None:
    def sized(size: int) -> Any:
        return "a" * size if text else size

    if low is not None:
        _limit(kind, path, sized(low - 1), f"{low - 1} where {low} is least")
    if high is not None:
        _limit(kind, path, sized(high + 1), f"{high + 1} where {high} is most")


DEPLOY = "policy.deploy_production"
YEAR = 31_622_400
for _kind, _path, _low, _high in (
    ("trust", "trust.thresholds.governors", 1, 1000),
    ("trust", "trust.thresholds.operators", 1, 1000),
    ("trust", "trust.law", 1, 1),
    ("policy", "policy.version", 1, 1),
    ("policy", f"{DEPLOY}.bake_s", 1, 2_592_000),
    ("policy", f"{DEPLOY}.interval_s", 1, 86_400),
    ("policy", f"{DEPLOY}.retention_s", None, YEAR),
    ("policy", f"{DEPLOY}.break_glass.max_validity_s", None, YEAR),
    ("policy", f"{DEPLOY}.break_glass.review_within_s", None, YEAR),
    ("policy", f"{DEPLOY}.hooks.drain.timeout_s", None, YEAR),
    ("policy", f"{DEPLOY}.tiers.0", 1, 100),
    ("policy", f"{DEPLOY}.gates.0.for_s", None, YEAR),
    ("policy", f"{DEPLOY}.gates.0.missing_s", None, YEAR),
    ("policy", f"{DEPLOY}.gates.0.min_samples", 1, 10_000),
    ("policy", f"{DEPLOY}.gates.0.min_requests", None, 1_000_000_000),
    ("fleet_body", "targets.web.max_unavailable", 1, 100_000),
    ("fleet_body", "targets.web.instances.0.probe.status", 100, 599),
    ("fleet_body", "targets.web.instances.0.probe.timeout_s", 1, YEAR),
    ("fleet_body", "targets.web.instances.0.reload.timeout_s", 1, YEAR),
    ("fleet_body", "targets.web.instances.0.process.stop_s", None, YEAR),
    ("lease", "interval_s", 1, None),
    ("lease", "tiers.0", 1, 100),
    ("command", "tier", 1, 100),
    ("claim", "cohorts.0.tier", 1, 100),
    ("TIER_INTENT", "tier", 1, 100),
    ("CANARY_PROMOTED", "to", 1, 100),
    ("SAMPLE", "tier", 1, 100),
    ("SAMPLE", "n", 1, None),
    ("VERDICT", "tier", 1, 100),
):
    _bounds(_kind, _path, _low, _high)
for _kind, _path, _low, _high in (
    ("genesis", "origin", 1, 255),
    ("genesis", "log_key", None, 512),
    ("policy", f"{DEPLOY}.hooks.drain.argv.0", 1, 1024),
    ("policy", f"{DEPLOY}.targets.web.paths.0", 1, 1024),
    ("fleet_body", "targets.web.instances.0.labels.canary", None, 256),
    ("fleet_body", "targets.web.instances.0.process.argv.0", 1, 1024),
    ("fleet_body", "targets.web.instances.0.process.env.A", None, 4096),
    ("fleet_body", "targets.web.instances.0.shared.0", 1, 1024),
    ("fleet_body", "targets.web.tes.tes", 1, 1024),
    ("intent", "what", None, 4096),
    ("intent", "why", None, 4096),
    ("lease", "reason", None, 4096),
    ("lease", "paths.0", 1, 4096),
    ("review", "summary", None, 4096),
    ("objection", "reason", None, 4096),
    ("command", "reason", None, 4096),
    ("message", "text", None, 4096),
    ("term", "reason", None, 4096),
    ("HALTED", "text", None, 4096),
    ("INSTANCE_RESTORED", "warning", None, 4096),
    ("VERDICT", "text", None, 4096),
    ("SANITY", "text", None, 4096),
):
    _bounds(_kind, _path, _low, _high, text=True)


def _many(kind: str, path: str, item: Any, low: int, high: int | None) -> None:
    if low:
        _limit(kind, path, [item(n) for n in range(low - 1)], f"{low - 1} items")
    if high is not None:
        _limit(kind, path, [item(n) for n in range(high + 1)], f"{high + 1} items")


def _name(n: int) -> str:
    return f"n{n}"


_many("trust", "trust.principals.0.keys", _name, 1, None)
_many("policy", f"{DEPLOY}.gates", lambda n: {**GATE, "name": _name(n)}, 1, 32)
_many("policy", f"{DEPLOY}.hooks.drain.argv", _name, 1, 64)
_many("policy", f"{DEPLOY}.targets.web.paths", _name, 1, 1024)
_many("policy", f"{DEPLOY}.notify.overdue", _name, 0, 16)
_many("policy", f"{DEPLOY}.reviews", lambda _: "sentinel", 0, 2)
_many("policy", f"{DEPLOY}.tiers", lambda n: n + 1, 1, 100)
_many("policy", "policy.phases.0.capabilities", _name, 0, 64)
_many("fleet_body", "targets.web.instances", _name, 1, None)
_many("fleet_body", "targets.web.instances.0.process.argv", _name, 1, 64)
_many("fleet_body", "targets.web.instances.0.reload.argv", _name, 0, 64)
_many("fleet_body", "targets.web.instances.0.shared", _name, 0, 64)
_many("lease", "changes", lambda n: {"before": digest_of(n), "after": A, "instances": []}, 1, 128)
_many("lease", "changes.0.instances", _name, 0, 256)
_many("lease", "paths", lambda n: f"p{n:03}", 0, 256)
_many("lease", "tiers", lambda n: n + 1, 1, 100)
_many("lease", "gates", lambda n: {**GATE, "name": _name(n)}, 0, 32)
_many("claim", "counted", lambda n: n, 2, 2)
_many("claim", "cohorts", lambda n: {"tier": 1, "instances": []}, 1, 100)
_many("claim", "cohorts.0.instances", _name, 0, 256)
_many("claim", "seen", lambda n: {"tree": A, "instances": []}, 1, 128)
_many("BASELINE", "values", lambda n: GATE_VALUE, 0, 32)
_many("SAMPLE", "values", lambda n: GATE_VALUE, 0, 32)
_many("SAMPLE", "trees", lambda n: {"tree": A, "instances": []}, 0, 128)
_many("ROLLBACK_FAILED", "instances", _name, 0, 256)
for _path, _most, _member in (
    ("hooks", 64, {"argv": ["a"], "timeout_s": 1}),
    ("notify", 64, []),
    ("targets", 1024, {"paths": ["a"]}),
):
    _limit("policy", f"{DEPLOY}.{_path}", {_name(n): _member for n in range(_most + 1)}, f"{_most + 1} members")
    _limit("policy", f"{DEPLOY}.{_path}", {"a b": _member}, "a name that is no id")
_limit("fleet_body", "targets.web.instances.0.labels", {_name(n): "" for n in range(33)}, "33 members")
_limit("fleet_body", "targets.web.instances.0.process.env", {_name(n): "" for n in range(65)}, "65 members")
_limit(
    "fleet_body",
    "targets",
    {_name(n): {"instances": [], "max_unavailable": 1, "tes": None} for n in range(1025)},
    "1025 members",
)

# Values, and what must agree within a shape.

for _text, _what in (
    ("-0", "minus zero"),
    ("-0.00", "minus zero with places"),
    ("01", "a leading zero"),
    ("1.", "no place"),
    (".5", "no digit before the point"),
    ("1e3", "an exponent"),
    ("+1", "a plus"),
    ("1234567890123456", "16 digits"),
    ("0.1234567890", "10 places"),
    ("\u0661", "an Arabic digit"),
    ("NaN", "no number"),
    ("", "empty"),
):
    _limit("policy", f"{DEPLOY}.gates.0.limit", _text, _what)
_limit("policy", f"{DEPLOY}.gates.1.absolute", None, "null in a relative gate")
_limit("policy", f"{DEPLOY}.gates.1.name", "ERROR_RATE", "the name of another in capitals")
_limit("policy", f"{DEPLOY}.tiers", [25, 5, 100], "falling")
_limit("policy", f"{DEPLOY}.tiers", [5, 5, 100], "one twice")
_limit("policy", f"{DEPLOY}.tiers", [5, 99], "ending at 99")
_limit("policy", f"{DEPLOY}.reviews", ["sentinel", "sentinel"], "one twice")
_limit("policy", f"{DEPLOY}.targets.web.paths.0", "/app.py", "absolute")
_limit("policy", f"{DEPLOY}.targets.web.paths.0", "a\x07b", "with a bell")
_limit("policy", f"{DEPLOY}.hooks.drain.argv.0", "a\nb", "with a newline")
_limit("policy", f"{DEPLOY}.hooks.drain.argv.0", "a\x7fb", "with a delete")
_limit("trust", "trust.principals.0.roles", ["operator", "governor"], "not sorted")
_limit("trust", "trust.principals.0.roles", ["governor", "governor"], "one twice")
_limit("trust", "trust.principals.0.roles", ["king"], "unknown")
_limit("trust", "trust.principals.0.keys.0.key", key_line("ada") + " ada@home", "with a comment")
_limit("trust", "trust.principals.0.keys.0.key", key_line("ada").replace(" ", "  "), "with two spaces")
_limit(
    "trust", "trust.principals.0.keys.0.key", key_line("ada").replace("ssh-ed25519", "ssh-rsa", 1), "of another type"
)
_limit("trust", "trust.principals.0.keys.0.key", key_line("ada")[:-4], "cut")
_limit("trust", "trust.principals.0.keys.0.key", key_line("ada") + "\n", "with a newline")
_limit("fleet_body", "targets.web.instances.0.process.env", {"1A": ""}, "a name that begins with a digit")
_limit("fleet_body", "targets.web.instances.0.process.env", {"A" * 129: ""}, "a name of 129 characters")
_limit("fleet_body", "targets.web.instances.0.process.env.A", "a\nb", "with a newline")
_limit("fleet_body", "targets.web.instances.0.host_key", key_line("tok"), "a hardware key")
for _text in ("/", "srv/web", "/srv/../etc", "/srv//web", "/srv/web/", "/srv/./web", "/" + "a" * 1024, "/a\nb"):
    _limit("fleet_body", "targets.web.instances.0.root", _text, f"{_text[:12]!r} of {len(_text)}")
for _text in ("/data", "../data", "a//b", "a/", "."):
    _limit("fleet_body", "targets.web.instances.0.shared.0", _text, repr(_text))
for _text in (
    "-oProxyCommand=x@web", "web.example", "ops@-web", "ops@Web", "ops@web:22", "ops@web:0", "ops@web:022",
    "ops@web:65536",
    "ops@web.", "ops@" + "a" * 64, "o" * 33 + "@web", "ops@" + ".".join("a" * 17), "ops@web\n", "LOCAL", "",
):  # fmt: skip
    _limit("fleet_body", "targets.web.instances.0.address", _text, f"{_text[:16]!r} of {len(_text)}")
for _text in ("ftp://web/", "http://", "http://web/ x", "http://web/\u00fc", "HTTP://web/", "http://" + "a" * 1018):
    _limit("fleet_body", "targets.web.instances.0.probe.url", _text, f"{_text[:12]!r} of {len(_text)}")
_limit("fleet_body", "targets.web.instances.0.probe.hook", ".drain", "begins with a dot")
_limit("fleet_body", "targets.web.instances.0.probe.hook", "a" * 65, "65 characters")
_limit("lease", "changes.0.after", "absent", "absent")
_limit("lease", "changes.0.before", "nothing", "neither a hash nor absent")
_limit("INSTANCE_APPLIED", "tree", "absent", "absent")
_limit("lease", "paths", {"sha256": A, "size": "9"}, "an object whose size is text")
_limit("claim", "seen.0.tree", A.upper(), "in capitals")
_limit("lease", "artifact.type", "tarball", "unknown")
_limit("lease", "rule", "one_key", "unknown")
_limit("message", "to", "a" * 65, "65 characters")
