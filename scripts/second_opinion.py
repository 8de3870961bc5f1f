#!/usr/bin/env python3
"""A second opinion on a ledger: every byte, signature and rule, by one file that uses nothing of this project.

    python scripts/second_opinion.py LEDGER [--objects DIR] [--json]

LEDGER is a home, or its `ledger.db`. Needs Python 3.11 and the package `cryptography`. Prints the verdict, the number
of entries, the newest head and the root of the tree; or the first entry that is wrong, and the code of what is wrong
with it. Ends with 0 when nothing is wrong, else with 1.

It was written from docs/FORMAT.md, whose sections the headings below name, and never reads what `calyx` decides: when
the two disagree, one of them, or that page, is wrong. It holds the leaves of all entries and the law's state in memory,
and reads the records twice: once for the chain, once for the law. A cut end cannot be seen here: compare the size and
the head with what you remember.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import io
import json
import re
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_INT = 2**53 - 1
MAX_RECORD = 65_535
MAX_LIST_OBJECT, MAX_MANIFEST = 16 * 2**20, 64 * 2**20
ZERO = "0" * 64


class Refused(Exception):
    """Something is wrong. `code`: as in docs/FORMAT.md. `entry`: where, None for the ledger as a whole."""

    def __init__(self, code: str, message: str, entry: int | None = None) -> None:
        super().__init__(message)
        self.code, self.entry = code, entry


def need(fact: object, code: str, message: str) -> None:
    """Refuse unless `fact`."""
    if not fact:
        raise Refused(code, message)


def sha256(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


# Section 1: values.


def canonical(value: Any) -> bytes:
    """The one encoding of a value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8")


def parse(data: bytes) -> Any:
    """What canonical JSON says."""
    try:
        value = json.loads(data.decode("utf-8"))
        plain(value, 16)
        same = canonical(value) == data
    except RecursionError:
        raise Refused("too_deep", "it is nested deeper than 16") from None
    except ValueError as error:
        raise Refused("bad_format", f"it is not canonical JSON ({type(error).__name__})") from None
    need(same, "not_canonical", "it is not spelt the canonical way")
    return value


def plain(value: Any, deep: int) -> None:
    """Check that only the allowed types are there, at most `deep` arrays and objects deep."""
    if isinstance(value, dict | list):
        need(deep > 0, "too_deep", "it is nested deeper than 16")
        for each in value.values() if isinstance(value, dict) else value:
            plain(each, deep - 1)
        if isinstance(value, dict):
            need(all(key.isascii() for key in value), "bad_format", "a key is not ASCII")
    elif isinstance(value, int) and not isinstance(value, bool):
        need(0 <= value <= MAX_INT, "bad_format", "a number is outside 0 to 2^53-1")
    else:
        need(value is None or isinstance(value, bool | str), "bad_format", "a number is not an integer")


def unbase64(text: str) -> bytes:
    """Decode the one spelling of these bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("bad_format", "it is not base64") from None
    need(base64.b64encode(data).decode() == text, "bad_format", "it is not the one spelling in base64")
    return data


@lru_cache(maxsize=4096)
def seconds(text: str) -> int:
    """Seconds since 1970 of a time."""
    try:
        moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise Refused("bad_format", f"{text!r} is not a time") from None
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())


# Section 4: shapes. A shape is a function that refuses what does not fit.

Shape = Callable[[Any], None]


def bad(fact: object, message: str) -> None:
    """Refuse as misshapen unless `fact`."""
    need(fact, "bad_format", message)


def match(pattern: str) -> Shape:
    """A string that is this and nothing more."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda v: bad(isinstance(v, str) and compiled.fullmatch(v), f"{v!r:.80} does not match {pattern}")


def string(low: int, high: int) -> Shape:
    """A string of so many characters."""
    return lambda v: bad(isinstance(v, str) and low <= len(v) <= high, f"it is no string of {low} to {high} characters")


def integer(low: int, high: int = MAX_INT) -> Shape:
    """An integer, and no boolean."""
    return lambda v: bad(type(v) is int and low <= v <= high, f"{v!r:.80} is no integer from {low} to {high}")


def among(*values: object) -> Shape:
    """One of these, of the same type."""
    return lambda v: bad(any(type(v) is type(each) and v == each for each in values), f"{v!r:.80} is none of {values}")


def maybe(shape: Shape) -> Shape:
    """This, or null."""
    return lambda v: None if v is None else shape(v)


def array(shape: Shape, low: int = 0, high: int = MAX_INT) -> Shape:
    """An array of so many of these."""

    def check(value: Any) -> None:
        bad(isinstance(value, list) and low <= len(value) <= high, f"it is no array of {low} to {high}")
        for each in value:
            shape(each)

    return check


def mapping(key: Shape, shape: Shape, high: int) -> Shape:
    """An object whose members' names are data."""

    def check(value: Any) -> None:
        bad(isinstance(value, dict) and len(value) <= high, f"it is no object of at most {high} members")
        for name, each in value.items():
            key(name)
            shape(each)

    return check


def shaped(rule: Shape | None = None, /, **members: Shape) -> Shape:
    """An object with exactly these members, and what else must be true of it."""

    def check(value: Any) -> None:
        bad(isinstance(value, dict), "it is no object")
        bad(value.keys() == members.keys(), f"its members differ: {sorted(value.keys() ^ members.keys())}")
        for name, shape in members.items():
            try:
                shape(value[name])
            except Refused as error:
                raise Refused(error.code, f"{name}: {error}") from None
        if rule is not None:
            rule(value)

    return check


def unique(names: Iterable[str], what: str) -> None:
    """Refuse ids that are the same ignoring case."""
    all_names = [name.lower() for name in names]
    bad(len(set(all_names)) == len(all_names), f"{what} are not unique")


def rising(tiers: list[int]) -> bool:
    """Whether tiers rise and end at 100."""
    return tiers == sorted(set(tiers)) and tiers[-1] == 100


def time_(value: Any) -> None:
    """Refuse what is no time."""
    match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")(value)
    seconds(value)


def decimal(value: Any) -> None:
    """Refuse what is no decimal."""
    match(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?")(value)
    bad(value[0] != "-" or value.strip("-0."), "it is minus zero")


def segments(path: str) -> None:
    """Refuse empty segments, `.` and `..`."""
    bad(not {"", ".", ".."} & set(path.split("/")), f"{path!r:.80} has a segment that is empty or made of dots")


def paths_in(value: Any) -> None:
    """Refuse what is no list of changed paths."""
    array(string(1, 4096))(value)
    for path in value:
        segments(path.removesuffix("/"))
    bad([*map(str.encode, value)] == sorted({*map(str.encode, value)}), "paths are not sorted, or one stands twice")


def short_paths(value: Any) -> None:
    """Refuse what is no list of changed paths that stands in a statement itself."""
    array(string(1, 4096), 0, 256)(value)
    paths_in(value)


def key_line(value: Any) -> None:
    """Refuse what is no key line of an acceptable key."""
    match(".*")(value)
    parse_key(value)


def host_key(value: Any) -> None:
    """Refuse what is no key of a host."""
    key_line(value)
    bad(value.startswith("ssh-ed25519 "), "a host's key is ssh-ed25519")


def path_word(*, absolute: bool) -> Shape:
    """An absolute or a relative path."""

    def check(value: Any) -> None:
        WORD(value)
        bad(value.startswith("/") == absolute, "it begins, or does not begin, with /")
        segments(value[1:] if absolute else value)

    return check


def policy_rule(deploy: Any) -> None:
    """What else must be true of a policy's terms."""
    bad(rising(deploy["tiers"]), "tiers do not rise and end at 100")
    unique((gate["name"] for gate in deploy["gates"]), "names of gates")
    unique(deploy["reviews"], "roles of reviews")


def instance_rule(v: Any) -> None:
    """What else must be true of an instance."""
    bad((v["host_key"] is None) == (v["address"] == "local"), "host_key is null exactly for local")
    command = v["reload"]["kind"] == "command"
    bad(bool(v["reload"]["argv"]) == command, "a reload has argv exactly when it is a command")
    bad(not (command and v["process"]), "a command to reload and a process exclude each other")
    below = sorted(path + "/" for path in v["shared"])
    bad(not any(b.startswith(a) for a, b in pairwise(below)), "a shared path lies below another")


def fleet_rule(v: Any) -> None:
    """What else must be true of a fleet."""
    unique(v["targets"], "names of targets")
    every = [instance for target in v["targets"].values() for instance in target["instances"]]
    places = [(instance["address"], instance["root"]) for instance in every]
    bad(len(set(places)) == len(places), "two instances share an address and a root")
    for target in v["targets"].values():
        unique((instance["name"] for instance in target["instances"]), "names of instances")


RULES: dict[str, Shape] = {
    "Principal": lambda v: bad(v["roles"] == sorted(set(v["roles"])), "roles are not sorted and unique"),
    "Gate": lambda v: bad(v["against"] == "absolute" or v["absolute"], "a relative gate has its absolute value"),
    "DeployProduction": policy_rule,
    "Instance": instance_rule,
    "Fleet": fleet_rule,
}
LABEL = "[a-z0-9][a-z0-9-]{0,62}"
PORT = r"(?!22\Z)([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ADDRESS = rf"(?=.{{1,1024}}\Z)(local|[A-Za-z_][A-Za-z0-9_.-]{{0,31}}@{LABEL}(\.{LABEL}){{0,15}}(:{PORT})?)"
ID, WORD = match(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), match(r"[^\x00-\x1f\x7f]{1,1024}")
SHAPES: dict[str, Shape] = {
    "hash": match("[0-9a-f]{64}"),
    "nonce": match("[0-9a-f]{32}"),
    "count": integer(0),
    "id": ID,
    "text": string(0, 4096),
    "time": time_,
    "decimal": decimal,
    "boolean": among(True, False),
    "percent": integer(1, 100),
    "seconds": integer(0, 31_622_400),
    "timeout": integer(1, 31_622_400),
    "tree": match("[0-9a-f]{64}|absent"),
    "word": WORD,
    "variable": match("[A-Za-z_][A-Za-z0-9_]{0,127}"),
    "value": match(r"[^\x00-\x08\x0a-\x1f\x7f]{0,4096}"),
    "url": match(r"(?=.{1,1024}\Z)https?://[!-~]+"),
    "address": match(ADDRESS),
    "path rule": match(r"(?!/)[^\x00-\x1f\x7f]{1,1024}"),
    "absolute path": path_word(absolute=True),
    "relative path": path_word(absolute=False),
    "key line": key_line,
    "host key": host_key,
    "names": lambda v: (SHAPES["ObjectRef"] if isinstance(v, dict) else array(ID, 0, 256))(v),
    "paths": lambda v: (SHAPES["ObjectRef"] if isinstance(v, dict) else short_paths)(v),
    "event detail": lambda v: shaped(type=ID, **told_by(v))(v),
}


def shape_of(text: str) -> Shape:
    """The shape that the document writes so."""
    if text.endswith(" or null"):
        return maybe(shape_of(text.removesuffix(" or null")))
    if text[0] in "[{":
        inner, _, size = text[1:].rpartition("]" if text[0] == "[" else "}")
        low, high = bounds(size)
        key, _, item = inner.partition(": ")
        return array(shape_of(inner), low, high) if text[0] == "[" else mapping(shape_of(key), shape_of(item), high)
    if text[0] == '"':
        return among(*re.findall('"([^"]*)"', text))
    if text.startswith(("integer", "string")):
        return (integer if text[0] == "i" else string)(*bounds(text.partition(" ")[2]))
    if text.isdigit():
        return among(int(text))
    return lambda v: SHAPES[text](v)  # noqa: PLW0108 -- a shape may be named before it is known


def bounds(text: str) -> tuple[int, int]:
    """Least and most: `1..64`, `1..`, `2`, or nothing."""
    low, dots, high = text.strip().partition("..")
    return int(low or 0), int(high) if high else MAX_INT if dots or not low else int(low)


def read_table(table: str) -> dict[str, dict[str, Shape]]:
    """Name -> field -> shape, from a table of the document."""
    found = {}
    for row in re.findall(r"^\S.*(?:\n .*)*", table, re.MULTILINE):
        name, _, fields = " ".join(row.split()).partition(":")
        found[name] = {field: shape_of(shape) for field, shape in re.findall(r"`(\w+)` (.+?)(?=, `|$)", fields)}
    return found


# The three tables of the document, field by field in its own words.
SHAPE_TABLE = """
HeadRef: `hash` hash, `size` count
ObjectRef: `sha256` hash, `size` count
Continues: `head` HeadRef, `ledger` hash
TrustRoot: `compromised` [Compromise], `expires` time, `law` 1, `principals` [Principal], `thresholds` Thresholds
Principal: `custodian` id, `id` id, `keys` [KeyEntry] 1.., `kind` "human" or "agent" or "overseer" or "executor" or
    "monitor", `roles` ["governor" or "operator" or "approver" or "proposer" or "sentinel" or "validator"]
KeyEntry: `key` key line, `user_verification` boolean
Thresholds: `governors` integer 1..1000, `operators` integer 1..1000
Compromise: `key` key line, `position` count
CapabilityMatrix: `deploy_production` DeployProduction, `phases` Phases, `version` 1
Phases: `0` Phase, `1` Phase, `2` Phase, `3` Phase
Phase: `capabilities` [id] 0..64, `name` id, `status` "implemented" or "pending"
DeployProduction: `bake_s` integer 1..2592000, `break_glass` BreakGlass, `enabled` boolean, `gates` [Gate] 1..32,
    `hooks` {id: Hook} 0..64, `interval_s` integer 1..86400, `look` boolean, `notify` {id: [id] 0..16} 0..64,
    `promotion` "auto" or "manual", `retention_s` seconds, `reviews` ["sentinel" or "validator"] 0..2, `skip_bake`
    boolean, `start` "auto" or "command", `targets` {id: TargetRule} 0..1024, `tiers` [percent] 1..100
TargetRule: `paths` [path rule] 1..1024
Gate: `absolute` decimal or null, `against` "absolute" or "baseline" or "rest", `breach` "above" or "below", `for_s`
    seconds, `limit` decimal, `min_requests` integer 0..1000000000, `min_samples` integer 1..10000, `missing_s`
    seconds, `name` id, `source` "tes" or "error_rate" or "cpu" or "memory"
Hook: `argv` [word] 1..64, `timeout_s` seconds
BreakGlass: `enabled` boolean, `max_validity_s` seconds, `review_within_s` seconds, `user_verification` boolean
Artifact: `sha256` hash, `size` count, `type` "directory" or "patch"
Change: `after` hash, `before` tree, `instances` names
CohortTier: `instances` names, `tier` percent
SeenTree: `instances` names, `tree` tree
GateValue: `gate` id, `requests` count or null, `rest` decimal or null, `value` decimal or null
Fleet: `targets` {id: Target} 0..1024
Target: `instances` [Instance] 1..100000, `max_unavailable` integer 1..100000, `tes` TesFile or null
Instance: `address` address, `hooks` Hooks, `host_key` host key or null, `labels` {id: string 0..256} 0..32, `metrics`
    Metrics, `name` id, `probe` Probe or null, `process` Process or null, `reload` Reload, `root` absolute path,
    `shared` [relative path] 0..64
Process: `argv` [word] 1..64, `env` {variable: value} 0..64, `stop_s` seconds, `user` id or null
Reload: `argv` [word] 0..64, `kind` "restart" or "command", `timeout_s` timeout
Probe: `status` integer 100..599, `timeout_s` timeout, `url` url
Metrics: `counters` Counters or null
Counters: `errors` word, `requests` word, `url` url
TesFile: `path` absolute path, `tes` word, `timestamp` word
Hooks: `drain` id or null, `undrain` id or null
"""
KIND_TABLE = """
genesis: `continues` Continues or null, `log_key` string 0..512, `origin` string 1..255, `policy` CapabilityMatrix,
    `trust` TrustRoot
trust: `approve_by` time, `base` hash, `reason` text, `trust` TrustRoot
policy: `approve_by` time, `base` hash, `policy` CapabilityMatrix, `reason` text
fleet: `approve_by` time, `base` hash, `fleet` ObjectRef, `reason` text
intent: `id` id, `target` id, `what` text, `why` text
lease: `approve_by` time, `artifact` Artifact, `bake_s` count, `capability` id, `changes` [Change] 1..128,
    `complete_by` time, `execute_by` time, `fleet` hash, `gates` [Gate] 0..32, `hooks` Hooks, `id` id, `intent` id,
    `interval_s` integer 1.., `not_before` time, `paths` paths, `policy` hash, `promotion` "auto" or "manual",
    `reason` text or null, `rule` "two_key" or "break_glass", `start` "auto" or "command", `target` id, `tiers`
    [percent] 1..100
review: `findings` ObjectRef or null, `role` "sentinel" or "validator", `summary` text, `verdict` "pass" or "fail"
cosignature: `review` hash or null, `role` "approver" or "sentinel" or "validator" or "governor" or "operator"
objection: `reason` text, `verb` "withdraw" or "deny"
term: `epoch` count, `reason` text
claim: `cohorts` [CohortTier] 1..100, `counted` [count] 2, `epoch` count, `reverse` ObjectRef or null, `seen`
    [SeenTree] 1..128, `type` "VERIFIED_2KEY"
event: `detail` event detail, `epoch` count or null
command: `expires_at` time, `reason` text, `skip_bake` boolean, `state` hash or null, `tier` percent or null, `verb`
    "start" or "pause" or "resume" or "promote" or "abort" or "rollback"
message: `reply_to` hash or null, `text` text, `to` id or null, `type` "question" or "acknowledgement" or "answer"
"""
EVENT_TABLE = """
STARTED: nothing more
TIER_INTENT: `tier` percent
INSTANCE_APPLIED: `instance` id, `tier` percent, `tree` hash
TIER_APPLIED: `tier` percent
BAKE_STARTED: `tier` percent
CANARY_PROMOTED: `tier` percent, `to` percent
PAUSED: `cause` id, `command` hash or null, `text` text
RESUMED: `command` hash or null
HALTED: `cause` id, `evidence` hash or null, `gate` id or null, `text` text
ROLLBACK_STARTED: `cause` id, `command` hash or null
INSTANCE_RESTORED: `instance` id, `rebuilt` boolean, `tree` tree, `warning` text or null
ROLLED_BACK: nothing more
ROLLBACK_FAILED: `instances` names, `text` text
COMPLETED: nothing more
ABORTED: `cause` id, `text` text
PREFLIGHT_FAILED: `code` id, `instance` id or null, `text` text
BASELINE: `values` [GateValue] 0..32 or null
SAMPLE: `n` integer 1.., `raw` ObjectRef or null, `tier` percent, `trees` [SeenTree] 0..128, `values` [GateValue]
    0..32
VERDICT: `gate` id or null, `n` count, `text` text, `tier` percent, `verdict` "breach" or "abort" or "missing" or
    "inconclusive" or "pass"
SANITY: `report` ObjectRef or null, `text` text, `verdict` "pass" or "fail"
"""
SHAPES |= {name: shaped(RULES.get(name), **fields) for name, fields in read_table(SHAPE_TABLE).items()}
KINDS, EVENTS = read_table(KIND_TABLE), read_table(EVENT_TABLE)
MONITOR_EVENTS = {"BASELINE", "SAMPLE", "VERDICT"}
EXECUTOR_EVENTS = EVENTS.keys() - MONITOR_EVENTS - {"SANITY"}
OBJECT, FLEET = SHAPES["ObjectRef"], SHAPES["Fleet"]


def told_by(value: Any) -> dict[str, Shape]:
    """The fields of an event besides its type."""
    type_ = value.get("type") if isinstance(value, dict) else None
    bad(isinstance(type_, str) and type_ in EVENTS, "there is no such event")
    return EVENTS[str(type_)]


ON_LEASE = {"review", "claim", "event", "command"}
ON_ANY = {"cosignature", "objection"}
COMMON = {
    name: shape_of(of)
    for name, of in (("by", "id"), ("head", "HeadRef"), ("ledger", "hash"), ("made_at", "time"), ("nonce", "nonce"))
}


# Sections 1 and 2: keys and signatures.

PRIME = 2**255 - 19
ORDER_L = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
Point = tuple[int, int]


def add(p: Point, q: Point) -> Point:
    """Add two points of edwards25519."""
    cross = CURVE_D * p[0] * q[0] * p[1] * q[1]
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + cross, -1, PRIME)
    return x % PRIME, (p[1] * q[1] + p[0] * q[0]) * pow(1 - cross, -1, PRIME) % PRIME


@lru_cache(maxsize=4096)
def check_public(raw: bytes, code: str = "bad_format") -> None:
    """Refuse what is not the canonical encoding of a point of the prime-order group other than the identity."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number % 2**255
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    x = pow(square, (PRIME + 3) // 8, PRIME)
    if x * x % PRIME != square:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    good = len(raw) == 32 and y < PRIME and x * x % PRIME == square and not (x == 0 and sign)
    need(good and (x, y) != (0, 1), code, "it is not the canonical encoding of a point other than the identity")
    base, result, left = ((PRIME - x) % PRIME if x % 2 != sign else x, y), (0, 1), ORDER_L
    while left:
        if left & 1:
            result = add(result, base)
        base, left = add(base, base), left >> 1
    need(result == (0, 1), code, "it is not in the prime-order group")


@lru_cache(maxsize=65536)
def verify(raw: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature as libsodium does. `raw` passed `check_public`.

    Of the prime-order group only the identity has a small order, so no other R of small order can come out below;
    OpenSSL compares R as bytes, and so only in its canonical form.
    """
    good = len(signature) == 64 and int.from_bytes(signature[32:], "little") < ORDER_L
    need(good and signature[:32] != bytes([1, *[0] * 31]), "bad_signature", "the signature is malformed")
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad_signature", "the signature is not this key's") from None


class Wire:
    """Reads RFC 4251 strings and numbers."""

    def __init__(self, data: bytes, code: str) -> None:
        self.data, self.code = data, code

    def take(self, count: int) -> bytes:
        """Take so many bytes."""
        need(len(self.data) >= count, self.code, "it ends too early")
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def uint32(self) -> int:
        """Take a number."""
        return int(struct.unpack(">I", self.take(4))[0])

    def string(self) -> bytes:
        """Take a string."""
        return self.take(self.uint32())

    def end(self) -> None:
        """Nothing is left."""
        need(not self.data, self.code, "something follows")


@dataclass(frozen=True)
class Key:
    """A public key. `application` only of a hardware key."""

    raw: bytes
    blob: bytes
    application: bytes | None

    @property
    def id(self) -> str:
        """`SHA256:…`."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")


@lru_cache(maxsize=4096)
def parse_key(line: str) -> Key:
    """The key of a key line."""
    type_, _, text = line.partition(" ")
    bad(type_ in {"ssh-ed25519", "sk-ssh-ed25519@openssh.com"}, "there is no such type of key")
    blob = unbase64(text)
    wire = Wire(blob, "bad_format")
    bad(wire.string() == type_.encode(), "the type inside differs")
    raw, application = wire.string(), wire.string() if type_.startswith("sk-") else None
    wire.end()
    if application is not None:
        bad(re.fullmatch(rb"ssh:[ -~]{0,251}", application), "its application does not begin with ssh:")
    check_public(raw)
    return Key(raw, blob, application)


def check_sshsig(key: Key, user_verification: bool, namespace: bytes, message: bytes, blob: bytes) -> None:
    """Check a person's signature."""
    wire = Wire(blob, "bad_format")
    bad(wire.take(6) == b"SSHSIG" and wire.uint32() == 1, "it is no SSHSIG of version 1")
    signer, named = wire.string(), wire.string()
    bad(wire.string() == b"" and wire.string() == b"sha512", "reserved is not empty, or the hash is not sha512")
    inner = Wire(wire.string(), "bad_format")
    wire.end()
    bad(inner.string() == Wire(signer, "bad_format").string(), "its type is not the key's")
    signature = inner.string()
    bad(len(signature) == 64, "its signature has not 64 bytes")
    flags = inner.take(5) if signer.startswith(b"\0\0\0\x1ask-ssh") else b""
    inner.end()
    need(signer == key.blob, "wrong_key", "it is by another key")
    need(named == namespace, "wrong_namespace", f"its namespace is not {namespace.decode()}")
    hashed = hashlib.sha512(message).digest()
    signed = b"SSHSIG" + b"".join(struct.pack(">I", len(s)) + s for s in (namespace, b"", b"sha512", hashed))
    if key.application is not None:
        need(flags[0] & 1, "user_absent", "nobody touched the token")
        need(flags[0] & 4 or not user_verification, "user_unverified", "the token did not verify its user")
        signed = hashlib.sha256(key.application).digest() + flags + hashlib.sha256(signed).digest()
    verify(key.raw, signed, signature)


# Section 2: records, statements, tree, checkpoint, objects.

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGNATURE = shaped(keyid=string(0, MAX_RECORD), sig=string(0, 4096))
ENVELOPE = shaped(payload=string(0, 2**20), payloadType=among(PAYLOAD_TYPE), signatures=array(SIGNATURE, 1, 1))
RECORD = shaped(envelope=ENVELOPE, prev=SHAPES["hash"], seq=integer(0), time=time_)
SUBJECT = array(shaped(digest=shaped(sha256=SHAPES["hash"]), name=ID), 1, 1)
STATEMENT = shaped(
    _type=among("https://in-toto.io/Statement/v1"),
    predicate=lambda _: None,
    predicateType=string(0, 256),
    subject=SUBJECT,
)


@dataclass(frozen=True)
class Record:
    """A record. `body`: the statement's bytes."""

    seq: int
    prev: str
    time: int
    body: bytes
    keyid: str
    sig: bytes
    leaf: str


def parse_record(data: bytes) -> Record:
    """A record's parts."""
    bad(len(data) <= MAX_RECORD, "it has more than 65,535 bytes")
    value = parse(data)
    RECORD(value)
    body, signature = unbase64(value["envelope"]["payload"]), value["envelope"]["signatures"][0]
    match("SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]")(signature["keyid"])
    sig, leaf = unbase64(signature["sig"]), sha256(b"\x00" + data)
    bad(body and sig, "its statement or its signature is empty")
    return Record(value["seq"], value["prev"], seconds(value["time"]), body, signature["keyid"], sig, leaf)


class Tree:
    """The RFC 6962 tree over the leaves so far."""

    def __init__(self, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        self.peaks = list(peaks)

    def append(self, leaf: str) -> Tree:
        """Add a leaf."""
        self.peaks.append((1, bytes.fromhex(leaf)))
        while len(self.peaks) > 1 and self.peaks[-1][0] == self.peaks[-2][0]:
            (size, right), (_, left) = self.peaks.pop(), self.peaks.pop()
            self.peaks.append((2 * size, hashlib.sha256(b"\x01" + left + right).digest()))
        return self

    def root(self) -> bytes:
        """The root."""
        root = None
        for _, left in reversed(self.peaks):
            root = left if root is None else hashlib.sha256(b"\x01" + left + root).digest()
        return root or hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class Checkpoint:
    """How many entries there are, and the root over them."""

    size: int
    root: bytes


def parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Origin, key id and raw key of a verifier key."""
    parts = re.fullmatch(r"([^\s+\x00-\x1f]+-[0-9a-f]{8})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", text)
    bad(parts, "the log's key is not a verifier key")
    origin, key_id, encoded = parts.groups() if parts else ("", "", "")
    data = unbase64(encoded)
    bad(len(data) == 33 and data[0] == 1, "the log's key is not Ed25519")
    check_public(data[1:], "bad_key")
    right = hashlib.sha256(origin.encode() + b"\n\x01" + data[1:]).digest()[:4]
    bad(right.hex() == key_id, "the verifier key's id is not that of its key")
    return origin, right, data[1:]


def parse_checkpoint(note: bytes, vkey: str) -> Checkpoint:
    """Size and root that the log signed."""
    origin, key_id, raw = parse_vkey(vkey)
    need(len(note) <= 262_144, "bad_checkpoint", "it is too long")
    try:
        text, _, signatures = note.decode("utf-8").rpartition("\n\n")
    except UnicodeDecodeError:
        raise Refused("bad_checkpoint", "it is not UTF-8") from None
    need(not re.search(r"[\x00-\x09\x0b-\x1f]", note.decode()), "bad_checkpoint", "it has control characters")
    parts = re.fullmatch(rf"{re.escape(origin)}\n(0|[1-9][0-9]{{0,15}})\n([A-Za-z0-9+/=]{{44}})", text)
    need(parts, "bad_checkpoint", "it is not origin, size and root of this log")
    size, root = (int(parts[1]), unbase64(parts[2])) if parts else (0, b"")
    need(size <= MAX_INT and signatures.endswith("\n"), "bad_checkpoint", "it does not end in signatures")
    lines, seen = signatures[:-1].split("\n"), 0
    need(len(lines) <= 32, "bad_checkpoint", "it has more than 32 signatures")
    for line in lines:
        signature = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)", line)
        need(signature, "bad_checkpoint", "a line is no signature")
        name, data = (signature[1], unbase64(signature[2])) if signature else ("", b"")
        need(len(data) > 4, "bad_checkpoint", "a signature is too short")
        if name == origin and data[:4] == key_id:
            verify(raw, text.encode() + b"\n", data[4:])
            seen += 1
    need(seen and len(root) == 32, "bad_checkpoint", "the log did not sign it, or not with a root of 32 bytes")
    return Checkpoint(size, root)


class Objects:
    """What entries name by hash and size. `find` opens an object by the hex of its digest, or gives None."""

    def __init__(self, find: Callable[[str], BinaryIO | None]) -> None:
        self.find = find
        self.trees: set[str] = set()

    def check(self, ref: dict[str, Any]) -> None:
        """The object is there and whole."""
        file = self.find(ref["sha256"])
        if file is None:
            raise Refused("object_missing", f"object {ref['sha256']} is not there")
        hashed, size = hashlib.sha256(), 0
        with file:
            while piece := file.read(2**20):
                hashed.update(piece)
                size += len(piece)
        good = (hashed.hexdigest(), size) == (ref["sha256"], ref["size"])
        need(good, "object_mismatch", f"object {ref['sha256']} is not what its name and size say")

    def read(self, ref: dict[str, Any], limit: int) -> bytes:
        """The object's content."""
        need(ref["size"] <= limit, "too_large", f"object {ref['sha256']} has more than {limit} bytes")
        self.check(ref)
        file = self.find(ref["sha256"])
        with file or io.BytesIO() as opened:
            return opened.read()

    def check_tree(self, digest: str, size: int | None) -> None:
        """The manifest of a tree is lawful, and its files are there; one that only a digest names may be absent."""
        if digest in self.trees:
            return
        file = self.find(digest)
        if file is None and size is None:
            return
        with file or io.BytesIO() as opened:
            size = opened.seek(0, io.SEEK_END) if size is None else size
        try:
            manifest = parse(self.read({"sha256": digest, "size": size}, MAX_MANIFEST))
            bad(isinstance(manifest, list) and manifest[:1] == ["calyx-tree-v1"], "it is no manifest")
            for row in manifest[1:]:
                bad(isinstance(row, list) and 2 <= len(row) <= 4 and isinstance(row[0], str), "a row is none")
                bad(ROWS.get(str(row[1])) == len(row), "a row is of no type")
                if len(row) == 4:
                    OBJECT({"sha256": row[2], "size": row[3]})
        except Refused as error:
            raise Refused(error.code, f"tree {digest}: {error}") from None
        for row in manifest[1:]:
            if len(row) == 4:
                self.check({"sha256": row[2], "size": row[3]})
        self.trees.add(digest)


ROWS = {"file": 4, "exec": 4, "link": 3, "dir": 2}


def references(value: Any) -> Iterator[dict[str, Any]]:
    """Everything in a predicate that names an object with hash and size."""
    if isinstance(value, dict):
        if isinstance(value.get("sha256"), str) and isinstance(value.get("size"), int):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


# Section 3: who.


class Root:
    """A trust root."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.people = {each["id"]: each for each in body["principals"]}
        self.keys = {
            (each["id"], key.id): (key, entry["user_verification"])
            for each in body["principals"]
            for entry in each["keys"]
            for key in [parse_key(entry["key"])]
        }
        self.raws = {(by, key.raw) for (by, _), (key, _) in self.keys.items()}
        self.compromised = {parse_key(each["key"]).raw: each["position"] for each in body["compromised"]}

    def has(self, role: str, by: str, raw: bytes) -> bool:
        """Whether this principal holds this key and this role."""
        return (by, raw) in self.raws and role in self.people[by]["roles"]

    def is_compromised(self, raw: bytes, seq: int) -> bool:
        """Whether what this key signed at this entry no longer counts."""
        return raw in self.compromised and self.compromised[raw] <= seq

    def quorum(self, role: str) -> int:
        """How many must hold together."""
        return int(self.body["thresholds"][role + "s"])

    def check(self, log_key: bytes) -> None:
        """Refuse what no root may be."""
        people = self.body["principals"]
        fine = [len({each["id"].lower() for each in people}) == len(people)]
        for each in people:
            roles, kind = set(each["roles"]), each["kind"]
            fine.append(kind == "human" or not roles & {"governor", "operator", "approver"})
            fine.append(kind == "agent" or not roles & {"sentinel", "validator"})
            for entry in each["keys"]:
                hardware = entry["key"].startswith("sk-")
                fine.append(kind == "human" or not hardware)
                fine.append(hardware or not entry["user_verification"])
        raws = [parse_key(entry["key"]).raw for each in people for entry in each["keys"]]
        fine.append(len(set(raws)) == len(raws) and log_key not in raws)
        fine.append(len(self.compromised) == len(self.body["compromised"]) and not set(raws) & set(self.compromised))
        for role in ("governor", "operator"):
            custodians = {each["custodian"] for each in people if role in each["roles"]}
            fine.append(len(custodians) >= self.quorum(role))
        need(all(fine), "bad_trust_root", "the trust root is not lawful by itself")


# The law's state.


@dataclass(frozen=True)
class Vote:
    """A cosignature. `verified`: its token verified the user."""

    seq: int
    by: str
    role: str
    raw: bytes
    custodian: str
    seen: int
    verified: bool = False


@dataclass
class Subject:
    """A lease or proposal."""

    seq: int
    name: str
    digest: str
    kind: str
    says: dict[str, Any]
    votes: list[Vote] = field(default_factory=list)
    withdrawn: dict[str, int] = field(default_factory=dict)

    def standing(self) -> list[Vote]:
        """Cosignatures that their signers did not withdraw."""
        return [vote for vote in self.votes if vote.seen > self.withdrawn.get(vote.by.lower(), -1)]


@dataclass
class Proposal(Subject):
    """A proposal. `root`: of a trust root."""

    root: Root | None = None
    in_force: bool = False


@dataclass
class Lease(Subject):
    """A lease. `owed_by`: until when its break-glass review is owed."""

    proposer: Vote | None = None
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    reviews: dict[str, list[tuple[Vote, str, str]]] = field(default_factory=dict)
    denied: bool = False
    claimed: bool = False
    owed_by: int | None = None
    time: int = 0


@dataclass
class Deployment:
    """What became of a claim. `bake`: when that of the newest tier began. `samples`: of that tier, whether whole."""

    lease: Lease
    seq: int
    counted: list[Vote]
    cohorts: dict[int, list[str]]
    places: dict[str, tuple[str, str]]
    leaf: str
    phase: str = "CLAIMED"
    back_to: str = ""
    started: bool = False
    tier: int = 0
    tier_applied: bool = False
    intended: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    restored: set[str] = field(default_factory=set)
    baseline: bool = False
    bake: int | None = None
    samples: dict[int, bool] = field(default_factory=dict)
    verdict: tuple[int, str, int, str] | None = None
    breach: str | None = None
    halted: str = ""
    completed: int = 0
    orders: dict[str, str] = field(default_factory=dict)
    standing: dict[str, str] = field(default_factory=dict)
    promote: dict[int, bool] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether it goes on."""
        return self.phase not in ENDED

    def next_tier(self) -> int | None:
        """The tier after the newest one."""
        return next((tier for tier in self.cohorts if tier > self.tier), None)

    @property
    def working(self) -> str:
        """The phase, or the one that a pause interrupted."""
        return self.back_to if self.phase == "PAUSED" else self.phase


ENDED = {"COMPLETED", "ROLLED_BACK", "ROLLBACK_FAILED", "ABORTED"}
MOVES: dict[str, dict[str, str]] = {
    "CLAIMED": {"STARTED": "DEPLOYING", "ABORTED": "ABORTED", "PAUSED": "PAUSED", "BASELINE": ""},
    "DEPLOYING": {
        "BAKE_STARTED": "BAKING", "PAUSED": "PAUSED", "HALTED": "HALTED", "TIER_INTENT": "", "INSTANCE_APPLIED": "",
        "TIER_APPLIED": "", "BASELINE": "",
    },
    "BAKING": {
        "CANARY_PROMOTED": "PROMOTED", "COMPLETED": "COMPLETED", "PAUSED": "PAUSED", "HALTED": "HALTED", "SAMPLE": "",
        "VERDICT": "",
    },
    "PROMOTED": {"TIER_INTENT": "DEPLOYING", "PAUSED": "PAUSED", "HALTED": "HALTED"},
    "PAUSED": {
        "HALTED": "HALTED", "RESUMED": "", "ABORTED": "ABORTED", "INSTANCE_APPLIED": "", "TIER_APPLIED": "",
        "BASELINE": "", "SAMPLE": "", "VERDICT": "",
    },
    "HALTED": {"ROLLBACK_STARTED": "ROLLING_BACK", "INSTANCE_APPLIED": "", "TIER_APPLIED": ""},
    "ROLLING_BACK": {
        "ROLLED_BACK": "ROLLED_BACK", "ROLLBACK_FAILED": "ROLLBACK_FAILED", "INSTANCE_APPLIED": "",
        "INSTANCE_RESTORED": "",
    },
    "ROLLED_BACK": {},
    "ROLLBACK_FAILED": {"ROLLBACK_STARTED": "ROLLING_BACK"},
    "COMPLETED": {"ROLLBACK_STARTED": "ROLLING_BACK"},
    "ABORTED": {},
}  # fmt: skip
PROGRESS = {
    "INSTANCE_APPLIED",
    "TIER_APPLIED",
    "STARTED",
    "TIER_INTENT",
    "BAKE_STARTED",
    "CANARY_PROMOTED",
    "COMPLETED",
}
FORWARD = PROGRESS - {"INSTANCE_APPLIED", "TIER_APPLIED"} | {"RESUMED"}
ORDERS = {"PAUSED": "pause", "RESUMED": "resume", "ROLLBACK_STARTED": "rollback"}


def differ(*votes: Vote) -> bool:
    """Whether these are different principals, keys and declared custodians."""
    sides = zip(*((vote.by.lower(), vote.raw, vote.custodian) for vote in votes), strict=True)
    return all(len(set(side)) == len(votes) for side in sides)


def allows(rules: list[str], path: str) -> bool:
    """Whether a path is one of these, or below one that ends in a slash."""
    return any(path == rule or (rule.endswith("/") and path.startswith(rule)) for rule in rules)


def same_json(a: Any, b: Any) -> bool:
    """Whether two values have the same bytes."""
    return canonical(a) == canonical(b)


# Sections 5 to 8: the law.


class Law:
    """Judges one entry after another. What is refused ends it."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.leaves: list[str] = []
        self.times: list[int] = []
        self.digests: set[str] = set()
        self.root = Root({"principals": [], "compromised": [], "thresholds": {}})
        self.policies: dict[str, dict[str, Any]] = {}
        self.fleet: dict[str, Any] = {"targets": {}}
        self.base = {"trust": ZERO, "policy": ZERO, "fleet": ZERO}
        self.log_key = ""
        self.owner_of: dict[bytes, str] = {}
        self.kind_of: dict[str, str] = {}
        self.subjects: dict[str, Subject] = {}
        self.intents: dict[str, str] = {}
        self.lease_ids: set[str] = set()
        self.deployments: dict[str, Deployment] = {}
        self.messages: dict[str, int] = {}
        self.term: tuple[int, str] | None = None

    # Section 5: every entry.

    def take(self, record: Record) -> None:
        self.record, self.seq, self.now = record, record.seq, record.time
        statement = parse(record.body)
        STATEMENT(statement)
        type_ = re.fullmatch(r"https://station\.calyx/([a-z]+)/v1", statement["predicateType"])
        kind, says = type_[1] if type_ else "", statement["predicate"]
        need(kind in KINDS, "unknown_kind", "there is no such kind")
        bad(isinstance(says, dict) and COMMON.keys() <= says.keys(), "one of the common five is not there")
        for name, shape in COMMON.items():
            shape(says[name])
        self.digest, self.says, self.by, head = sha256(record.body), says, says["by"], says["head"]
        self.subject_name, self.about = statement["subject"][0]["name"], statement["subject"][0]["digest"]["sha256"]
        self.seen = head["size"]
        first = (self.seen, says["ledger"], head["hash"]) == (0, ZERO, ZERO)
        bad(first if kind == "genesis" else self.seen, "genesis alone has nothing before it")
        if kind not in ON_LEASE | ON_ANY:
            itself = self.subject_name == kind and self.about == sha256(canonical(says))
            bad(itself, "its subject is not itself")
        need((kind == "genesis") == (self.seq == 0), "misplaced_genesis", "genesis is the first entry and no other")
        need(self.digest not in self.digests, "repeated", "this statement was made before")
        need(not self.seq or says["ledger"] == self.leaves[0], "wrong_ledger", "it is of another ledger")
        known = self.leaves[self.seen - 1] if 0 < self.seen <= self.seq else None
        need(not self.seq or head["hash"] == known, "head_contradicted", "its head is not a prefix of this ledger")
        shaped(**COMMON, **KINDS[kind])(says)
        if kind == "genesis":
            self.root = Root(says["trust"])
        self.made = seconds(says["made_at"])
        self.check_signature(kind)
        self.check_times()
        getattr(self, "take_" + kind)()
        self.leaves.append(record.leaf)
        self.times.append(record.time)
        self.digests.add(self.digest)

    def check_signature(self, kind: str) -> None:
        self.signed_in = self.root
        subject = self.subjects.get(self.about)
        found = self.root.keys.get((self.by, self.record.keyid))
        withdrawal = kind == "objection" and self.says["verb"] == "withdraw"
        proposed = subject.root if isinstance(subject, Proposal) and (kind == "cosignature" or withdrawal) else None
        if found is None and proposed is not None:
            found, self.signed_in = proposed.keys.get((self.by, self.record.keyid)), proposed
        if found is None:
            raise Refused("unknown_key", f"{self.by} holds no key {self.record.keyid}")
        self.key, self.verified = found
        self.person = self.signed_in.people[self.by]
        body = self.record.body
        message = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(body)} ".encode() + body
        if self.person["kind"] != "human":
            verify(self.key.raw, message, self.record.sig)
            return
        namespace = b"approval-v1@station.calyx" if kind == "cosignature" else b"statement-v1@station.calyx"
        check_sshsig(self.key, self.verified, namespace, message, self.record.sig)

    def check_times(self) -> None:
        need(self.made <= self.now + 120, "clock_suspect", "it was made after it was recorded")
        if self.person["kind"] == "human":
            return
        need(self.now <= self.made + 120, "stale_statement", "it was made too long before it was recorded")
        need(self.seq - self.seen <= 1024, "head_too_old", "its head lags by more than 1,024 entries")
        last = self.times[self.seen - 1] if self.seen else self.made
        need(self.made >= last, "clock_suspect", "it was made before its head was")

    def vote(self, role: str) -> Vote:
        custodian = self.person["custodian"]
        return Vote(self.seq, self.by, role, self.key.raw, custodian, self.seen, self.verified)

    def role(self, *roles: str) -> None:
        held = set(self.person["roles"]) & set(roles)
        if not held and self.signed_in is self.root:
            subject = self.subjects.get(self.about)
            proposed = subject.root if isinstance(subject, Proposal) else None
            held = {role for role in roles if proposed and proposed.has(role, self.by, self.key.raw)}
        need(held, "role_missing", f"{self.by} is none of {roles}")

    def kind(self, kind: str) -> None:
        need(self.person["kind"] == kind, "wrong_kind", f"{self.by} is no {kind}")

    def subject(self) -> Subject:
        found = self.subjects.get(self.about)
        if found is None or found.name != self.subject_name:
            raise Refused("unknown_subject", "it is about nothing in this ledger")
        need(found.seq < self.seen, "head_too_old", "its signer had not seen what it is about")
        return found

    def lease(self) -> Lease:
        found = self.subject()
        if not isinstance(found, Lease):
            raise Refused("unknown_subject", "it is about no lease")
        return found

    def names(self, value: Any) -> list[str]:
        return self.listed(value, array(ID))

    def listed(self, value: Any, shape: Shape) -> list[str]:
        if isinstance(value, dict):
            value = parse(self.objects.read(value, MAX_LIST_OBJECT))
            shape(value)
        return list(value)

    # Section 6: each kind.

    def take_genesis(self) -> None:
        says = self.says
        self.log_key = says["log_key"]
        origin, _, raw = parse_vkey(says["log_key"])
        need(origin == says["origin"], "bad_genesis", "the log's key is of another name")
        self.root.check(raw)
        self.role("governor")
        continues = says["continues"]
        if continues is not None:
            size, last = continues["head"]["size"], continues["head"]["hash"]
            whole = (
                size > 0 and (size == 1) == (last == continues["ledger"]) and ZERO not in (last, continues["ledger"])
            )
            need(whole, "bad_genesis", "it continues a ledger without an entry, or another one")
        self.enact_root(self.root)
        self.policies[self.digest] = says["policy"]
        self.base |= {"trust": self.digest, "policy": self.digest}

    def enact_root(self, root: Root) -> None:
        self.root = root
        self.owner_of |= {key.raw: by for (by, _), (key, _) in root.keys.items()}
        self.kind_of |= {by.lower(): person["kind"] for by, person in root.people.items()}

    def check_follows(self, root: Root) -> None:
        root.check(parse_vkey(self.log_key)[2])
        fine = [self.owner_of.get(key.raw, by).lower() == by.lower() for (by, _), (key, _) in root.keys.items()]
        fine += [self.kind_of.get(by.lower(), who["kind"]) == who["kind"] for by, who in root.people.items()]
        fine += [root.compromised.get(raw, MAX_INT) <= position for raw, position in self.root.compromised.items()]
        fine += [position <= self.seq for position in root.compromised.values()]
        need(all(fine), "bad_trust_root", "this root may not follow the one in force")

    def propose(self, kind: str, role: str, root: Root | None = None) -> None:
        self.role(role)
        need(self.says["base"] == self.base[kind], "stale_base", "its base is not in force")
        need(self.now <= seconds(self.says["approve_by"]), "approval_expired", "its time for approval is over")
        if root is not None:
            self.check_follows(root)
        self.subjects[self.digest] = Proposal(self.seq, kind, self.digest, kind, self.says, root=root)

    def take_trust(self) -> None:
        self.propose("trust", "governor", Root(self.says["trust"]))

    def take_policy(self) -> None:
        self.propose("policy", "governor")

    def take_fleet(self) -> None:
        self.propose("fleet", "operator")
        self.read_fleet(self.says["fleet"])

    def read_fleet(self, ref: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = parse(self.objects.read(ref, MAX_MANIFEST))
        FLEET(body)
        return body

    def take_intent(self) -> None:
        self.role("proposer")
        self.new_id(r"INT-[0-9]{8}-[0-9]{3,6}(-[0-9]{1,6})?", set(self.intents))
        self.intents[self.says["id"].lower()] = self.says["target"]

    def new_id(self, pattern: str, taken: set[str]) -> None:
        need(re.fullmatch(pattern, self.says["id"]), "bad_id", "its id is not of the form")
        need(self.says["id"].lower() not in taken, "id_taken", "its id is taken")

    def take_lease(self) -> None:
        says = self.says
        self.role("proposer")
        self.new_id(r"LEASE-[0-9]{8}-[0-9]{6}(-[0-9]{1,6})?", self.lease_ids)
        target = self.intents.get(says["intent"].lower())
        need(target is not None, "unknown_intent", "its intent is not in the ledger")
        need(target == says["target"], "wrong_target", "its intent is for another target")
        need(says["capability"] == "deploy_production", "unknown_capability", "there is no such capability")
        self.in_force(says)
        limits = [seconds(says[name]) for name in ("not_before", "approve_by", "execute_by", "complete_by")]
        need(max(limits[:2]) <= limits[2] <= limits[3], "bad_windows", "its windows are not in order")
        need(self.now <= limits[2], "lease_expired", "its window of execution is over")
        need(rising(says["tiers"]), "bad_tiers", "tiers do not rise and end at 100")
        need(says["rule"] == "two_key" or says["reason"], "reason_missing", "breaking the glass needs a reason")
        lease = Lease(self.seq, says["id"], self.digest, "lease", says, proposer=self.vote("proposer"), time=self.now)
        self.read_changes(lease)
        lease.paths = self.listed(says["paths"], paths_in)
        self.lease_ids.add(says["id"].lower())
        self.subjects[self.digest] = lease

    def in_force(self, says: dict[str, Any]) -> None:
        need(says["policy"] == self.base["policy"], "stale_policy", "its policy is not in force")
        need(says["fleet"] == self.base["fleet"], "stale_fleet", "its fleet is not in force")

    def read_changes(self, lease: Lease) -> None:
        says = lease.says
        need(says["target"] in self.fleet["targets"], "unknown_target", "the fleet has no such target")
        known = {instance["name"] for instance in self.fleet["targets"][says["target"]]["instances"]}
        for change in says["changes"]:
            names = self.names(change["instances"])
            need(set(names) <= known, "unknown_instance", "the target has no such instance")
            fine = len(set(names)) == len(names) and not set(names) & set(lease.before)
            fine = fine and change["before"] != change["after"]
            artifact = says["artifact"]
            fine = fine and (artifact["type"] == "patch" or artifact["sha256"] == change["after"])
            need(fine, "bad_changes", "a change has an instance of another, or the wrong trees")
            lease.before |= dict.fromkeys(names, change["before"])
            lease.after |= dict.fromkeys(names, change["after"])
        pairs = {(change["before"], change["after"]) for change in says["changes"]}
        need(
            len(pairs) == len(says["changes"]) and lease.before,
            "bad_changes",
            "two changes are the same, or all are empty",
        )

    def take_review(self) -> None:
        self.role(self.says["role"])
        lease = self.lease()
        owed = lease.owed_by is not None
        need(owed or not lease.claimed, "lease_consumed", "the lease was claimed")
        need(owed or self.by.lower() not in lease.reviews, "already_reviewed", "this agent reviewed the lease")
        said = (self.vote(self.says["role"]), self.digest, self.says["verdict"])
        lease.reviews.setdefault(self.by.lower(), []).append(said)
        lease.owed_by = None

    def take_cosignature(self) -> None:
        subject, role = self.subject(), self.says["role"]
        if isinstance(subject, Lease):
            self.approve(subject, role)
        elif isinstance(subject, Proposal):
            self.second(subject, role)

    def in_time(self, subject: Subject) -> None:
        late = max(self.now, self.made) > seconds(subject.says["approve_by"])
        need(not late, "approval_expired", "the time for approval is over")

    def approve(self, lease: Lease, role: str) -> None:
        need(role in {"approver", "sentinel", "validator"}, "wrong_role", "a lease is not approved in this role")
        self.role(role)
        need(not lease.claimed, "lease_consumed", "the lease was claimed")
        need(not lease.denied, "lease_denied", "the lease was denied")
        self.in_time(lease)
        review = self.says["review"]
        if role == "approver":
            need(review is None, "wrong_review", "an approver names no review")
        else:
            mine = [
                each for each in lease.reviews.get(self.by.lower(), []) if each[1] == review and each[0].role == role
            ]
            need(mine, "wrong_review", "it names no review of its signer's")
            need(mine[0][2] == "pass", "review_failed", "the review that it names failed")
            need(mine[0][0].seq < self.seen, "head_too_old", "its head does not hold the review")
        vote = self.vote(role)
        again = any((each.raw, each.role) == (vote.raw, role) for each in lease.standing())
        need(not again, "already_cosigned", "this key cosigned it")
        lease.votes.append(vote)

    def second(self, proposal: Proposal, role: str) -> None:
        right = role == self.proposers(proposal) and self.says["review"] is None
        need(right, "wrong_role", "a proposal is cosigned in the role of its proposers, without a review")
        self.role(role)
        need(not proposal.in_force, "already_in_force", "it is in force")
        need(proposal.says["base"] == self.base[proposal.kind], "stale_base", "its base is no longer in force")
        self.in_time(proposal)
        vote = self.vote(role)
        again = any(each.raw == vote.raw for each in proposal.standing())
        need(not again, "already_cosigned", "this key cosigned it")
        proposal.votes.append(vote)
        roots = [self.root] if proposal.root is None else [self.root, proposal.root]
        if vote in proposal.standing() and all(self.counts(root, proposal, role) for root in roots):
            self.enact(proposal)

    def proposers(self, proposal: Subject) -> str:
        return "operator" if proposal.kind == "fleet" else "governor"

    def counts(self, root: Root, proposal: Proposal, role: str) -> bool:
        good = [vote for vote in proposal.standing() if not self.root.is_compromised(vote.raw, vote.seq)]
        held = {root.people[vote.by]["custodian"] for vote in good if root.has(role, vote.by, vote.raw)}
        return len(held) >= root.quorum(role)

    def enact(self, proposal: Proposal) -> None:
        if proposal.root is not None:
            self.check_follows(proposal.root)
            self.enact_root(proposal.root)
        elif proposal.kind == "policy":
            self.policies[proposal.digest] = proposal.says["policy"]
        else:
            self.fleet = self.read_fleet(proposal.says["fleet"])
        self.base[proposal.kind] = proposal.digest
        proposal.in_force = True

    def take_objection(self) -> None:
        subject, deny = self.subject(), self.says["verb"] == "deny"
        if deny and not isinstance(subject, Lease):
            raise Refused("wrong_subject", "only a lease is denied")
        if isinstance(subject, Lease):
            self.role(*(("approver", "proposer") if deny else ("approver", "sentinel", "validator")))
            need(not subject.claimed, "lease_consumed", "the lease was claimed")
            subject.denied |= deny
        else:
            self.role(self.proposers(subject))
            need(not (isinstance(subject, Proposal) and subject.in_force), "already_in_force", "it is in force")
        if not deny:
            subject.withdrawn[self.by.lower()] = self.seq

    def take_term(self) -> None:
        self.kind("executor")
        need(self.seen == self.seq, "head_moved", "it does not follow its head at once")
        need(self.says["epoch"] == (self.term[0] if self.term else 0) + 1, "wrong_epoch", "its epoch is not the next")
        self.term = (self.says["epoch"], self.by)

    def take_message(self) -> None:
        to, reply_to = self.says["to"], self.says["reply_to"]
        need(
            reply_to is None or self.messages.get(reply_to, self.seq) < self.seen, "unknown_subject", "no such message"
        )
        need(to is None or to in self.root.people, "unknown_principal", "nobody is called that")
        self.messages[self.digest] = self.seq

    # Section 7: the two-key rule.

    def take_claim(self) -> None:
        self.kind("executor")
        lease, says = self.lease(), self.says
        need(self.seen == self.seq, "head_moved", "it does not follow its head at once")
        need(self.term == (says["epoch"], self.by), "fenced", "its term is not the newest, or another's")
        counted = self.two_keys(lease)
        need(says["counted"] == [vote.seq for vote in counted], "wrong_count", "it counts other cosignatures")
        fleet = {each["name"]: each for each in self.fleet["targets"][lease.says["target"]]["instances"]}
        cohorts = self.cohorts(lease, counted, fleet)
        stated = [[each["tier"], self.names(each["instances"])] for each in says["cohorts"]]
        need(stated == [list(each) for each in cohorts.items()], "wrong_cohorts", "its cohorts are others")
        seen = [(name, each["tree"]) for each in says["seen"] for name in self.names(each["instances"])]
        need(len(dict(seen)) == len(seen), "bad_claim", "it names an instance twice")
        need(dict(seen) == lease.before, "base_moved", "not every instance is on its tree before")
        places = {name: (fleet[name]["address"], fleet[name]["root"]) for name in lease.before}
        for other in self.deployments.values():
            if other.lease.says["target"] == lease.says["target"] and not other.live:
                other.standing.pop("rollback", None)
        glass = self.policies[lease.says["policy"]]["deploy_production"]["break_glass"]
        lease.claimed = True
        if lease.says["rule"] == "break_glass" and not self.looked_at(lease):
            lease.owed_by = self.now + glass["review_within_s"]
        self.deployments[lease.digest] = Deployment(lease, self.seq, counted, cohorts, places, self.record.leaf)

    def two_keys(self, lease: Lease) -> list[Vote]:
        says, glass = lease.says, lease.says["rule"] == "break_glass"
        self.step_two(lease)
        need(self.now >= seconds(says["not_before"]), "too_early", "its window of execution is to come")
        need(self.now <= seconds(says["execute_by"]), "lease_expired", "its window of execution is over")
        need(self.now <= seconds(self.root.body["expires"]), "trust_expired", "the trust root has expired")
        reasons = [self.not_good(lease, vote) for vote in lease.votes]
        good = [vote for vote, reason in zip(lease.votes, reasons, strict=True) if reason is None]
        people = [vote for vote in good if vote.role == "approver"]
        others = people if glass else [vote for vote in good if vote.role != "approver"]
        need(
            good or not reasons,
            reasons[0] or "" if reasons else "",
            "no cosignature is good; the first is not because of this",
        )
        need(people and len(others) >= 1 + glass, "quorum_unmet", "one of the two keys is not there")
        pairs = [
            sorted((a, b), key=lambda vote: vote.seq) for a in people for b in others if self.independent(a, b, lease)
        ]
        if glass and self.terms(says["policy"])["break_glass"]["user_verification"]:
            pairs = [pair for pair in pairs if any(vote.verified and self.verifies(vote) for vote in pair)]
        need(pairs, "quorum_unmet", "no two of them differ from each other and from the proposer")
        pair = min(pairs, key=lambda pair: (pair[1].seq, pair[0].seq))
        need(not lease.denied, "lease_denied", "the lease was denied")
        self.step_eight(lease)
        if not glass:
            self.step_nine(lease)
        return pair

    def terms(self, policy: str) -> Any:
        return self.policies[policy]["deploy_production"]

    def enables(self, policy: str) -> bool:
        phase = self.policies[policy]["phases"]["3"]
        listed = phase["status"] == "implemented" and "deploy_production" in phase["capabilities"]
        return bool(listed and self.terms(policy)["enabled"])

    def step_two(self, lease: Lease) -> None:
        says = lease.says
        self.in_force(says)
        terms, target = self.terms(says["policy"]), says["target"]
        need(self.enables(says["policy"]), "capability_disabled", "the policy does not enable it")
        need(target in terms["targets"], "target_not_allowed", "the policy does not know the target")
        rules = terms["targets"][target]["paths"]
        need(all(allows(rules, path) for path in lease.paths), "path_not_allowed", "a path is not the policy's")
        need(same_json(says["gates"], terms["gates"]), "gates_differ", "its gates are not the policy's")
        need(set(terms["tiers"]) <= set(says["tiers"]), "tiers_missing", "it leaves out a tier")
        need(says["bake_s"] >= terms["bake_s"], "bake_too_short", "its bake is too short")
        need(says["interval_s"] <= terms["interval_s"], "interval_too_long", "its interval is too long")
        need(terms["start"] in {"auto", says["start"]}, "start_differs", "the policy asks for an order to start")
        need(terms["promotion"] in {"auto", says["promotion"]}, "promotion_differs", "the policy asks for an order")
        instances = self.fleet["targets"][target]["instances"]
        hooks = [says["hooks"], *(each["hooks"] for each in instances)]
        used = {hook for each in hooks for hook in each.values() if hook is not None}
        need(used <= terms["hooks"].keys(), "hook_not_allowed", "a hook is not the policy's")
        if says["rule"] == "break_glass":
            need(terms["break_glass"]["enabled"], "break_glass_disabled", "the policy lets nobody break the glass")
            valid = seconds(says["execute_by"]) - lease.time
            need(valid <= terms["break_glass"]["max_validity_s"], "break_glass_too_long", "it is valid for too long")

    def not_good(self, lease: Lease, vote: Vote) -> str | None:
        if vote not in lease.standing():
            return "withdrawn"
        if self.root.is_compromised(vote.raw, vote.seq):
            return "key_compromised"
        return None if self.root.has(vote.role, vote.by, vote.raw) else "role_missing"

    def independent(self, a: Vote, b: Vote, lease: Lease) -> bool:
        proposer = lease.proposer
        if proposer is None or not differ(a, b, proposer):
            return False
        answers = {by.lower(): person["custodian"] for by, person in self.root.people.items()}
        return len({answers.get(each.by.lower(), each.custodian) for each in (a, b, proposer)}) == 3

    def verifies(self, vote: Vote) -> bool:
        return any(key.raw == vote.raw and asked for (by, _), (key, asked) in self.root.keys.items() if by == vote.by)

    def step_eight(self, lease: Lease) -> None:
        says = lease.says
        need(not lease.claimed, "lease_consumed", "the lease was claimed")
        self.not_busy(lease)
        late = [each for each in self.subjects.values() if isinstance(each, Lease) and each.owed_by is not None]
        overdue = any(each.owed_by is not None and each.owed_by < self.now for each in late)
        need(says["rule"] == "break_glass" or not overdue, "review_overdue", "a review is overdue")

    def not_busy(self, lease: Lease) -> None:
        target = lease.says["target"]
        fleet = {each["name"]: each for each in self.fleet["targets"].get(target, {"instances": []})["instances"]}
        mine = self.deployments.get(lease.digest)
        places = {(fleet[name]["address"], fleet[name]["root"]) for name in lease.before if name in fleet}
        places = set(mine.places.values()) if mine else places
        for other in self.deployments.values():
            if other.live and other.lease is not lease:
                there = other.lease.says["target"] == target or places & set(other.places.values())
                need(not there, "target_busy", "the target has a live deployment")

    def step_nine(self, lease: Lease) -> None:
        said = [each for reviews in lease.reviews.values() for each in reviews]
        for role in self.terms(lease.says["policy"])["reviews"]:
            mine = [(vote, verdict) for vote, _, verdict in said if vote.role == role]
            # A review that failed stands while its key has the role, however the id is spelled.
            no = any(
                verdict == "fail" and self.root.has(role, self.owner_of[vote.raw], vote.raw) for vote, verdict in mine
            )
            need(not no, "review_failed", f"a {role} said no")
            held = any(self.root.has(role, vote.by, vote.raw) for vote, _ in mine)
            need(held, "review_missing", f"there is no review by a {role}")

    def looked_at(self, lease: Lease) -> bool:
        said = [vote for reviews in lease.reviews.values() for vote, _, _ in reviews]
        return any(self.root.has(vote.role, vote.by, vote.raw) for vote in said)

    def cohorts(self, lease: Lease, counted: list[Vote], fleet: dict[str, Any]) -> dict[int, list[str]]:
        last = bytes.fromhex(self.leaves[counted[1].seq])
        key = hashlib.sha256(b"calyx-cohort-v1" + bytes.fromhex(lease.digest) + last).digest()

        def rank(name: str) -> tuple[bool, bytes]:
            return fleet[name]["labels"].get("canary") != "true", hmac.digest(key, name.encode(), "sha256")

        ordered, count = sorted(lease.before, key=rank), len(lease.before)
        reach = {(tier * count + 99) // 100: tier for tier in lease.says["tiers"]}
        ends = [0, *reach]
        return {reach[end]: ordered[start:end] for start, end in pairwise(ends)}

    # Section 8: deployments.

    def take_command(self) -> None:
        self.role("approver", "operator")
        says, lease = self.says, self.lease()
        verb, tier = says["verb"], says["tier"]
        late = max(self.now, self.made) > seconds(says["expires_at"])
        need(not late, "command_expired", "its time is over")
        deployment = self.deployments.get(lease.digest)
        if deployment is None:
            raise Refused("not_claimed", "the lease was not claimed")
        promote = verb == "promote"
        fits = promote == (tier is not None) and (promote or not says["skip_bake"])
        fits = fits and (verb in {"start", "resume", "promote"}) == (says["state"] is not None)
        need(fits, "bad_command", "it has a member too many, or too few")
        need(deployment.live or verb == "rollback", "deployment_ended", "the deployment ended")
        if says["state"] is not None:
            self.bound_order(deployment)
        if verb == "rollback" and not deployment.live:
            self.may_roll_back(deployment)
        if promote:
            deployment.promote[tier] = says["skip_bake"]
        elif verb == "resume":
            deployment.standing.pop("pause", None)
        else:
            deployment.standing[verb] = self.digest
        deployment.orders[self.digest] = verb
        deployment.leaf = self.record.leaf

    def bound_order(self, deployment: Deployment) -> None:
        says, lease = self.says, deployment.lease.says
        need(says["state"] == deployment.leaf, "stale_command", "something happened since")
        match says["verb"]:
            case "start":
                fits = lease["start"] == "command" and not deployment.started
            case "resume":
                fits = deployment.phase == "PAUSED" or "pause" in deployment.standing
            case _:
                fits = deployment.working == "BAKING" and deployment.tier == says["tier"]
        need(fits, "bad_command", "nothing waits for this order")
        if says["verb"] == "start":
            return
        missing = deployment.verdict is not None and deployment.verdict[:2] == (deployment.tier, "missing")
        need(not (deployment.breach or missing), "health_refused", "no order overrides the monitor")
        skip = self.terms(lease["policy"])["skip_bake"] or not says["skip_bake"]
        need(skip, "skip_not_allowed", "the policy lets nobody skip a bake")

    def may_roll_back(self, deployment: Deployment) -> None:
        if deployment.phase == "COMPLETED":
            until = deployment.completed + self.terms(deployment.lease.says["policy"])["retention_s"]
            need(self.now <= until, "retention_over", "what was there before is no longer kept")
        else:
            need(deployment.phase == "ROLLBACK_FAILED", "nothing_to_roll_back", "there is nothing to take back")
        self.not_busy(deployment.lease)
        mine = {deployment.places[name] for name in deployment.intended}
        for later in self.deployments.values():
            if later.seq > deployment.seq:
                there = mine & {later.places[name] for name in later.intended}
                need(not there, "superseded", "a later deployment was there")

    def take_event(self) -> None:
        says, lease = self.says, self.lease()
        told: dict[str, Any] = says["detail"]
        type_ = told["type"]
        if type_ in EXECUTOR_EVENTS:
            self.kind("executor")
            need(self.term == (says["epoch"], self.by), "fenced", "its term is not the newest, or another's")
        else:
            need(says["epoch"] is None, "bad_event", "only an executor has an epoch")
            if type_ == "SANITY":
                self.role("validator")
            else:
                self.kind("monitor")
        deployment = self.deployments.get(lease.digest)
        if deployment is None:
            need(type_ == "PREFLIGHT_FAILED", "not_claimed", "the lease was not claimed")
            return
        need(type_ != "PREFLIGHT_FAILED", "lease_consumed", "the lease was claimed")
        if type_ == "SANITY":
            return
        need(type_ in MOVES[deployment.phase], "illegal_transition", f"not while it is {deployment.phase}")
        if type_ in FORWARD:
            self.forward(deployment)
        before, after = deployment.phase, MOVES[deployment.phase][type_]
        on = self.on_progress if type_ in PROGRESS else self.on_look if type_ in MONITOR_EVENTS else self.on_stop
        on(deployment, told)
        deployment.phase = after or deployment.phase
        if type_ in EXECUTOR_EVENTS:
            deployment.leaf = self.record.leaf
        if after == "PAUSED":
            deployment.back_to = before

    def forward(self, deployment: Deployment) -> None:
        says, policy = deployment.lease.says, self.base["policy"]
        need(self.now <= seconds(says["complete_by"]), "complete_by_passed", "the time to complete is over")
        enabled = self.enables(policy) and says["target"] in self.terms(policy)["targets"]
        need(enabled, "capability_disabled", "the policy in force does not enable it")
        tainted = any(self.root.is_compromised(vote.raw, vote.seq) for vote in deployment.counted)
        need(not tainted, "tainted", "a counted cosignature was made with a compromised key")
        need(not {"abort", "rollback"} & deployment.standing.keys(), "stopped", "it was ordered to stop")
        need(deployment.breach is None, "health_refused", "the monitor said stop")
        need("pause" not in deployment.standing, "paused", "it was ordered to pause")

    def on_progress(self, deployment: Deployment, told: Any) -> None:
        says, type_, tier = deployment.lease.says, told["type"], deployment.tier
        match type_:
            case "STARTED":
                need(self.now <= seconds(says["execute_by"]), "lease_expired", "its window of execution is over")
                ordered = says["start"] == "auto" or "start" in deployment.standing
                need(ordered, "start_not_ordered", "nobody ordered it to start")
                deployment.started = True
            case "TIER_INTENT":
                free = deployment.phase == "PROMOTED" or tier == 0
                need(free, "illegal_transition", "the tier before was not promoted")
                need(told["tier"] == deployment.next_tier(), "wrong_tier", "it is not the next tier")
                need(deployment.baseline, "no_baseline", "there is no baseline")
                deployment.tier, deployment.tier_applied, deployment.bake = told["tier"], False, None
                deployment.intended |= set(deployment.cohorts[told["tier"]])
                deployment.samples = {}
            case "INSTANCE_APPLIED":
                name = told["instance"]
                of_tier = name in deployment.cohorts.get(told["tier"], []) and name in deployment.intended
                need(of_tier, "not_intended", "the instance was not intended in this tier")
                need(name not in deployment.applied | deployment.restored, "repeated", "its result was told before")
                need(told["tree"] == deployment.lease.after[name], "wrong_tree", "it is not on its tree after")
                deployment.applied.add(name)
            case "TIER_APPLIED":
                newest = told["tier"] == tier and not deployment.tier_applied
                need(newest, "wrong_tier", "it is not the newest tier, or that was applied before")
                need(deployment.intended <= deployment.applied, "not_applied", "an instance is not applied")
                deployment.tier_applied = True
            case "BAKE_STARTED":
                right = told["tier"] == tier and deployment.tier_applied
                need(right, "wrong_tier", "it is not the newest tier, or that is not applied")
                deployment.bake = self.now
            case "CANARY_PROMOTED":
                right = (told["tier"], told["to"]) == (tier, deployment.next_tier())
                need(right, "wrong_tier", "it does not lead from this tier to the next")
                ordered = says["promotion"] == "auto" or tier in deployment.promote
                need(ordered, "promotion_not_ordered", "nobody ordered it")
                self.healthy(deployment)
            case "COMPLETED":
                need(deployment.next_tier() is None, "wrong_tier", "it is not the last tier")
                self.healthy(deployment)
                deployment.completed = self.now
            case _:
                pass

    def healthy(self, deployment: Deployment) -> None:
        lease = deployment.lease.says
        wanted = -(-lease["bake_s"] // lease["interval_s"])
        baked = sum(deployment.samples.values()) >= wanted or deployment.promote.get(deployment.tier, False)
        need(baked, "not_baked", "the bake is not over")
        newest = max(deployment.samples, default=0)
        passed = deployment.verdict is not None and deployment.verdict[:3] == (deployment.tier, "pass", newest)
        need(passed, "not_healthy", "the newest verdict is no pass on the newest sample")

    def on_stop(self, deployment: Deployment, told: Any) -> None:
        type_, started = told["type"], deployment.started
        if type_ in ORDERS:
            given = told["command"] is None or deployment.orders.get(told["command"]) == ORDERS[type_]
            need(given, "unknown_command", "it names no such order")
        match type_:
            case "RESUMED":
                deployment.phase = deployment.back_to
            case "ABORTED":
                need(not started, "illegal_transition", "it has started")
            case "HALTED":
                need(started, "illegal_transition", "it has not started")
                newest = deployment.verdict[3] if deployment.verdict else None
                known = {None, newest, deployment.breach, *deployment.orders}
                need(told["evidence"] in known, "unknown_evidence", "its evidence is not this deployment's")
                deployment.halted = told["cause"]
            case "ROLLBACK_STARTED":
                waits = not deployment.live or deployment.halted == "tainted"
                need(not waits or "rollback" in deployment.standing, "rollback_not_ordered", "nobody ordered it")
                if not deployment.live:
                    self.may_roll_back(deployment)
                deployment.restored = set()
            case "INSTANCE_RESTORED":
                name = told["instance"]
                need(name in deployment.intended, "not_intended", "it was never to change")
                need(name not in deployment.restored, "repeated", "it was restored before")
                need(told["tree"] == deployment.lease.before[name], "wrong_tree", "it is not on its tree before")
                deployment.restored.add(name)
            case "ROLLED_BACK":
                need(deployment.intended <= deployment.restored, "not_restored", "an instance is not restored")
            case "ROLLBACK_FAILED":
                left = sorted(deployment.intended - deployment.restored)
                right = sorted(self.names(told["instances"])) == left
                need(right, "wrong_instances", "it does not name what is left, once each")
                deployment.standing.pop("rollback", None)
            case _:
                pass

    def on_look(self, deployment: Deployment, told: Any) -> None:
        newest = max(deployment.samples, default=0)
        match told["type"]:
            case "BASELINE":
                first = not deployment.baseline and deployment.tier == 0
                need(first, "late_baseline", "there is one, or a tier was changed")
                absent = set(deployment.lease.before.values()) == {"absent"}
                need(absent == (told["values"] is None), "bad_baseline", "values are null exactly where nothing was")
                deployment.baseline = True
            case "SAMPLE":
                if deployment.working != "BAKING" or deployment.bake is None:
                    raise Refused("not_baking", "no tier bakes")
                need(told["tier"] == deployment.tier, "wrong_tier", "it is not the tier that bakes")
                need(told["n"] > newest, "repeated", "its number does not rise")
                due = deployment.bake + told["n"] * deployment.lease.says["interval_s"] - 1
                need(min(self.made, self.now) >= due, "early_sample", "its interval is not over")
                deployment.samples[told["n"]] = all(value["value"] is not None for value in told["values"])
            case "VERDICT":
                right = told["tier"] == deployment.tier and told["n"] == newest
                need(right, "wrong_sample", "it is not on the newest sample of the newest tier")
                need(newest or told["verdict"] != "pass", "not_healthy", "nothing was seen that could pass")
                deployment.verdict = (told["tier"], told["verdict"], newest, self.digest)
                if told["verdict"] in {"breach", "abort"} and deployment.breach is None:
                    deployment.breach = self.digest
            case _:
                pass
        if told.get("values") is not None:
            gates = sorted(gate["name"] for gate in deployment.lease.says["gates"])
            right = sorted(value["gate"] for value in told["values"]) == gates
            need(right, "bad_values", "it is not one value for each gate")


# Section 9: the whole.


@dataclass(frozen=True)
class Opinion:
    """The verdict. `code`, `entry` and `message` say what is wrong; all are None when nothing is."""

    ok: bool
    size: int
    head: str
    root: str
    code: str | None = None
    entry: int | None = None
    message: str | None = None


def check_chain(records: Iterable[bytes], checkpoint: Checkpoint | None, tree: Tree) -> Iterator[str]:
    """Give out the leaves, and put them into the tree. Refuses with the entry that was changed."""
    last, time, seq, rest = ZERO, 0, 0, iter(records)
    for data in rest:
        need_at(checkpoint is None or seq < checkpoint.size, seq, "the checkpoint does not cover it")
        record = read_at(seq, data)
        if record.prev != last:
            raise Refused("broken_chain", "it was changed", blame(tree, record, last, next(rest, None), checkpoint))
        need_at(record.time >= time or not seq, seq, "its time is before that of the entry before it")
        if seq:
            tree.append(last)
            yield last
        last, time, seq = record.leaf, record.time, seq + 1
    need_at(checkpoint is None or seq == checkpoint.size, seq, "the checkpoint covers it, and it is not there")
    if seq:
        tree.append(last)
        need_at(checkpoint is None or tree.root() == checkpoint.root, seq - 1, "the checkpoint signs another one")
        yield last


def need_at(fact: bool, seq: int, message: str) -> None:
    """Refuse an entry of the chain unless `fact`."""
    if not fact:
        raise Refused("broken_chain", message, seq)


def read_at(seq: int, data: bytes) -> Record:
    """The record in a place."""
    try:
        record = parse_record(data)
    except Refused as error:
        raise Refused("broken_chain", f"it is not a record: {error}", seq) from None
    need_at(record.seq == seq, seq, "it says that it is another entry")
    return record


def blame(tree: Tree, record: Record, last: str, following: bytes | None, checkpoint: Checkpoint | None) -> int:
    """Which of two entries was changed, when the later does not name the leaf of the earlier one."""
    if record.seq == 0:
        return 0
    agrees = False
    if following is not None:
        try:
            agrees = parse_record(following).prev == record.leaf
        except Refused:
            agrees = False
    elif checkpoint is not None and checkpoint.size == record.seq + 1:
        roots = [Tree(tree.peaks).append(leaf).append(record.leaf).root() for leaf in (last, record.prev)]
        agrees = checkpoint.root in roots
    return record.seq - agrees


def examine(records: Callable[[], Iterable[bytes]], note: bytes, objects: Objects) -> Opinion:
    """Check a ledger. `records`: gives them from the first on, each time it is called."""
    law, tree = Law(objects), Tree()
    leaves: list[str] = []
    wrong: Refused | None = None
    try:
        first = next(iter(records()), None)
        if first is None:
            raise Refused("no_genesis", "the ledger is empty")
        checkpoint = open_checkpoint(first, note)
        for leaf in check_chain(records(), checkpoint, tree):
            leaves.append(leaf)  # noqa: PERF402 -- what was found before a refusal counts
    except Refused as error:
        wrong = error
    if wrong is None or wrong.entry is not None:
        try:
            judge_all(law, records(), len(leaves))
        except Refused as error:
            wrong = error
    head, root = leaves[-1] if leaves else ZERO, tree.root().hex()
    if wrong is None:
        return Opinion(True, len(leaves), head, root)
    return Opinion(False, len(leaves), head, root, wrong.code, wrong.entry, str(wrong))


def open_checkpoint(first: bytes, note: bytes) -> Checkpoint | None:
    """The checkpoint, by the key of record 0; None when that is not lawful, which the law says later."""
    law = Law(Objects(lambda _: None))
    try:
        law.take(read_at(0, first))
    except Refused:
        return None
    try:
        return parse_checkpoint(note, law.log_key)
    except Refused as error:
        raise Refused("bad_checkpoint", str(error)) from None


def judge_all(law: Law, records: Iterable[bytes], count: int) -> None:
    """The law, and the objects, of the first `count` entries."""
    for seq, data in zip(range(count), records, strict=False):
        try:
            law.take(read_at(seq, data))
            for ref in references(law.says):
                law.objects.check(ref)
            named = [each[side] for each in law.says.get("changes", []) for side in ("before", "after")]
            trees: list[tuple[str, int | None]] = [(digest, None) for digest in named if digest != "absent"]
            artifact = law.says.get("artifact", {"type": None})
            if artifact["type"] == "directory":
                trees.insert(0, (artifact["sha256"], artifact["size"]))
            for digest, size in trees:
                law.objects.check_tree(digest, size)
        except Refused as error:
            raise Refused(error.code, str(error), seq) from None


def read_database(path: Path) -> tuple[Callable[[], Iterator[bytes]], bytes]:
    """The records, and the newest checkpoint, of a ledger's file."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)

    def records() -> Iterator[bytes]:
        for seq, (place, data) in enumerate(connection.execute("SELECT seq, data FROM record ORDER BY seq")):
            if place != seq:
                return
            yield data

    row = connection.execute("SELECT checkpoint FROM tip").fetchone()
    return records, row[0].encode() if row and isinstance(row[0], str) else row[0] if row else b""


def main() -> int:
    """Say whether a ledger is right."""
    parser = argparse.ArgumentParser(description="A second opinion on a ledger.")
    parser.add_argument("ledger", type=Path, help="a home, or its ledger.db")
    parser.add_argument("--objects", type=Path, help="the folder of objects; beside ledger.db when left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    path = arguments.ledger / "ledger.db" if arguments.ledger.is_dir() else arguments.ledger
    folder = arguments.objects or path.parent / "objects"

    def find(digest: str) -> BinaryIO | None:
        file = folder / digest[:2] / digest[2:]
        return file.open("rb") if file.is_file() else None

    try:
        opinion = examine(*read_database(path), Objects(find))
    except (sqlite3.Error, OSError) as error:
        print(f"second_opinion: {path}: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(vars(opinion), sort_keys=True))
    elif opinion.ok:
        print(f"ok: {opinion.size} entries", f"head {opinion.head}", f"root {opinion.root}", sep="\n")
    else:
        where = "the ledger" if opinion.entry is None else f"entry {opinion.entry}"
        print(f"NOT OK: {where}: {opinion.code}: {opinion.message}")
    return 0 if opinion.ok else 1


if __name__ == "__main__":
    sys.exit(main())
