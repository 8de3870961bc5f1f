#!/usr/bin/env python3
"""A second opinion on a ledger: every byte, signature and rule, by one file that uses nothing of this project.

    python scripts/second_opinion.py LEDGER [--objects DIR] [--json]

LEDGER is a home, its `ledger.db`, or an export. Needs Python 3.11 and the package `cryptography`. Prints the verdict,
the number of entries, the newest head and the root of the tree; or the first entry that is wrong, and the code of what
is wrong with it. Ends with 0 when nothing is wrong, else with 1.

It was written from docs/FORMAT.md, whose sections the headings below name, and never reads what `calyx` decides: when
the two disagree, one of them, or that page, is wrong. Each `need` below is one rule: what must hold, the code of its
refusal, and in words what is wrong. Records are read once; leaves and the law's state are held in memory. A cut end
cannot be seen here: compare the size and the head with what you remember.
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
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise, product
from pathlib import Path
from types import SimpleNamespace as Data
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_INT = 2**53 - 1
MAX_LIST, MAX_MANIFEST = 16 * 2**20, 64 * 2**20
ZERO = "0" * 64


class Refused(Exception):
    """What is wrong: "code: words", with a code of docs/FORMAT.md. `entry`: where, None for the ledger as a whole."""

    def __init__(self, text: str, entry: int | None = None) -> None:
        super().__init__(text)
        self.code, _, self.words = text.partition(": ")
        self.entry = entry


def need(fact: object, text: str, entry: int | None = None) -> None:
    """One rule: refuse unless `fact`."""
    if not fact:
        raise Refused(text, entry)


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
        check_plain(value, 16)
        same = canonical(value) == data
    except RecursionError:
        raise Refused("too_deep: it is nested deeper than 16") from None
    except ValueError as error:
        raise Refused(f"bad_format: it is not canonical JSON ({type(error).__name__})") from None
    need(same, "not_canonical: it is not spelt the canonical way")
    return value


def check_plain(value: Any, deep: int) -> None:
    """Only the allowed types are there, at most `deep` arrays and objects deep."""
    if isinstance(value, dict | list):
        need(deep > 0, "too_deep: it is nested deeper than 16")
        for each in value.values() if isinstance(value, dict) else value:
            check_plain(each, deep - 1)
        need(isinstance(value, list) or all(map(str.isascii, value)), "bad_format: a key is not ASCII")
    elif type(value) is int:
        need(0 <= value <= MAX_INT, "bad_format: a number is outside 0 to 2^53-1")
    else:
        need(value is None or isinstance(value, bool | str), "bad_format: a number is not an integer")


def unbase64(text: str) -> bytes:
    """Decode the one spelling of these bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    need(base64.b64encode(data).decode() == text, "bad_format: it is not base64, or not the one spelling")
    return data


@lru_cache(maxsize=4096)
def seconds(text: str) -> int:
    """Seconds since 1970 of a time."""
    moment = datetime(*map(int, re.split("[-T:Z]", text)[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    return int(moment.timestamp())


def parts_of(data: bytes, *sizes: int | None) -> list[bytes]:
    """Parts of these sizes, None for an RFC 4251 string, which stands behind its own length; and nothing after them."""
    parts = []
    for size in sizes:
        if size is None:
            need(len(data) >= 4, "bad_format: it ends too early")
            size, data = int.from_bytes(data[:4], "big"), data[4:]  # noqa: PLW2901 -- the size stands there
        need(len(data) >= size, "bad_format: it ends too early")
        parts.append(data[:size])
        data = data[size:]
    need(not data, "bad_format: something follows")
    return parts


# Sections 1 and 2: keys and signatures.

PRIME, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
KEY_SIZES = {"ssh-ed25519": [None, None], "sk-ssh-ed25519@openssh.com": [None, None, None]}


def add_points(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
    """Add two points of edwards25519."""
    cross = CURVE_D * p[0] * q[0] * p[1] * q[1]
    x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + cross, -1, PRIME)
    return x % PRIME, (p[1] * q[1] + p[0] * q[0]) * pow(1 - cross, -1, PRIME) % PRIME


@lru_cache(maxsize=4096)
def may_be_enrolled(raw: bytes) -> bool:
    """Whether it is the canonical encoding of a point of the prime-order group other than the identity."""
    y = int.from_bytes(raw, "little") % 2**255
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    xs = [x for x in (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME) if x * x % PRIME == square]
    if len(raw) != 32 or y >= PRIME or y == 1 or not xs:
        return False
    # The sign does not matter: a point and its negative have the same order.
    point, result, left = (xs[0], y), (0, 1), ORDER
    while left:
        result = add_points(result, point) if left & 1 else result
        point, left = add_points(point, point), left >> 1
    return result == (0, 1)


def verify(raw: bytes, message: bytes, signature: bytes) -> None:
    """A signature is good as libsodium sees it. `raw` may be enrolled.

    Of the prime-order group only the identity has a small order, so no other R of small order can come out below;
    OpenSSL compares R as bytes, and so only in its canonical form.
    """
    canonical_s = len(signature) == 64 and int.from_bytes(signature[32:], "little") < ORDER
    need(canonical_s and signature[:32] != bytes([1, *[0] * 31]), "bad_signature: the signature is malformed")
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad_signature: the signature is not this key's") from None


@lru_cache(maxsize=4096)
def parse_key(line: str) -> Data:
    """The key of a key line. `application`: empty unless a hardware token holds it."""
    type_, _, text = line.partition(" ")
    need(type_ in KEY_SIZES, "unsupported_key: there is no such type of key")
    blob = unbase64(text)
    named, raw, application = [*parts_of(blob, *KEY_SIZES[type_]), b""][:3]
    need(named == type_.encode(), "bad_format: the type inside differs")
    need(type_[:3] == "ssh" or re.fullmatch(rb"ssh:[ -~]{0,251}", application), "bad_format: no ssh: application")
    need(may_be_enrolled(raw), "bad_format: it is no point that may be a key")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return Data(raw=raw, blob=blob, application=application, id="SHA256:" + digest.rstrip("="))


def check_sshsig(key: Data, user_verification: bool, namespace: bytes, message: bytes, blob: bytes) -> None:
    """A person's signature is good."""
    magic, signer, named, reserved, hash_, inner = parts_of(blob, 10, None, None, None, None, None)
    need(magic == b"SSHSIG\0\0\0\1", "bad_format: it is no SSHSIG of version 1")
    need((reserved, hash_) == (b"", b"sha512"), "bad_format: reserved is not empty, or the hash is not sha512")
    type_ = signer[4 : 4 + int.from_bytes(signer[:4], "big")]
    need(type_.decode("latin-1") in KEY_SIZES, "unsupported_key: there is no such type of key")
    of_type, signature, *flags = parts_of(inner, None, None, *([5] if type_.startswith(b"sk-") else []))
    need(of_type == type_ and len(signature) == 64, "bad_format: its type is not the key's, or it has not 64 bytes")
    need(signer == key.blob, "wrong_key: it is by another key")
    need(named == namespace, f"wrong_namespace: its namespace is not {namespace.decode()}")
    strings = (namespace, b"", b"sha512", hashlib.sha512(message).digest())
    signed = b"SSHSIG" + b"".join(len(each).to_bytes(4, "big") + each for each in strings)
    if flags:
        need(flags[0][0] & 1, "user_absent: nobody touched the token")
        need(flags[0][0] & 4 or not user_verification, "user_unverified: the token did not verify its user")
        signed = hashlib.sha256(key.application).digest() + flags[0] + hashlib.sha256(signed).digest()
    verify(key.raw, signed, signature)


# Section 4: shapes, written as the document writes them.


@lru_cache(maxsize=1024)
def read_shape(text: str) -> tuple[Any, ...]:
    """What a shape is made of: alternatives; or an array's item, or an object's key and value; and least and most."""
    some = re.split(r" or (?![^\[]*\])", text)
    form = re.fullmatch(r"(integer|string|\[(.+)\]|\{(\w+): (.+)\}) ?(\d*)(\.\.)?(\d*)", text)
    basic, item, key, value, least, dots, most = form.groups() if form else [None] * 7
    return some, basic, item, key, value, int(least or 0), int(most or (MAX_INT if dots or not least else least))


def fits(shape: str, v: Any) -> bool:
    """Whether a value has a shape: `[id] 1..`, `{id: Hook} 0..64`, `integer 1..9`, `"a" or "b"`, or one by name."""
    some, basic, item, key, value, low, high = read_shape(shape)
    if len(some) > 1:
        return any(fits(each, v) for each in some)
    if basic is None:
        return fits_name(shape, v)
    if item:
        return isinstance(v, list) and low <= len(v) <= high and all(fits(item, each) for each in v)
    if key:
        return isinstance(v, dict) and len(v) <= high and all(fits(key, k) and fits(value, v[k]) for k in v)
    if basic == "string":
        return isinstance(v, str) and low <= len(v) <= high
    return type(v) is int and low <= v <= high


def fits_name(name: str, v: Any) -> bool:
    """Whether a value has the shape of that name, or is that string."""
    if name in FIELDS:
        same = isinstance(v, dict) and v.keys() == FIELDS[name].keys()
        good = same and all(fits(shape, v[field]) for field, shape in FIELDS[name].items())
    elif name in PATTERNS:
        good = isinstance(v, str) and re.fullmatch(PATTERNS[name], v, re.DOTALL) is not None
    elif name in OTHERS:
        good = fits(OTHERS[name], v)
    else:
        good = name in RULES or name == (f'"{v}"' if isinstance(v, str) else canonical(v).decode())
    try:
        return good and (name not in RULES or RULES[name](v) is not False)
    except (Refused, ValueError):  # a key that is none, a date that does not exist
        return False


def need_fields(value: Any, fields: dict[str, str]) -> None:
    """Refuse what has not exactly these fields, each of its shape."""
    need(isinstance(value, dict) and value.keys() == fields.keys(), f"bad_format: fields are not {', '.join(fields)}")
    for name, shape in fields.items():
        need(fits(shape, value[name]), f"bad_format: {name} is not: {shape}")


def once(values: Iterable[Any]) -> bool:
    """Whether each value stands once."""
    every = list(values)
    return len(set(every)) == len(every)


def tidy(path: str) -> bool:
    """Whether no segment is empty, `.` or `..`."""
    return not {"", ".", ".."} & set(path.split("/"))


CONTROL = r"\x00-\x1f\x7f"
LABEL = "[a-z0-9][a-z0-9-]{0,62}"
PORT = r"(?!22\Z)([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PATTERNS = {
    "hash": "[0-9a-f]{64}",
    "nonce": "[0-9a-f]{32}",
    "id": "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "key id": "SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]",
    "time": "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
    "decimal": r"(?!-0(\.0*)?\Z)-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?",
    "tree": "[0-9a-f]{64}|absent",
    "word": f"[^{CONTROL}]{{1,1024}}",
    "variable": "[A-Za-z_][A-Za-z0-9_]{0,127}",
    "value": f"(\t|[^{CONTROL}]){{0,4096}}",
    "url": r"(?=.{1,1024}\Z)https?://[!-~]+",
    "address": rf"(?=.{{1,1024}}\Z)(local|[A-Za-z_][A-Za-z0-9_.-]{{0,31}}@{LABEL}(\.{LABEL}){{0,15}}(:{PORT})?)",
    "path rule": f"(?!/)[^{CONTROL}]{{1,1024}}",
    "absolute path": f"/[^{CONTROL}]{{1,1023}}",
    "relative path": f"[^{CONTROL}]{{1,1024}}",
    "key line": ".*",
    "host key": "ssh-ed25519 .*",
}
OTHERS = {
    "boolean": "true or false",
    "count": "integer 0..",
    "text": "string 0..4096",
    "percent": "integer 1..100",
    "seconds": "integer 0..31622400",
    "timeout": "integer 1..31622400",
    "names": "ObjectRef or [id] 0..256",
    "paths": "ObjectRef or path list",
    "path list": "[string 1..4096]",
}
# What must be true besides: is not False, and does not refuse.
RULES: dict[str, Callable[[Any], object]] = {
    "predicate": lambda v: isinstance(v, dict),
    "event detail": lambda v: isinstance(v, dict) and v.get("type") in [*EVENTS] and fits(v["type"], v),
    "time": seconds,
    "absolute path": lambda v: tidy(v[1:]),
    "relative path": tidy,
    "key line": parse_key,
    "host key": parse_key,
    "paths": lambda v: len(v) <= 256,
    "path list": lambda v: v == sorted(set(v), key=str.encode) and all(tidy(path.removesuffix("/")) for path in v),
    "Principal": lambda v: v["roles"] == sorted(set(v["roles"])),
    "Gate": lambda v: v["against"] == "absolute" or v["absolute"] is not None,
    "Prometheus": lambda v: (
        (v["requests"] is None) == (v["errors"] is None) and {v["requests"], v["cpu"], v["memory"]} != {None}
    ),
    "Probe": lambda v: v["url"] is not None or (v["hook"] is not None and v["status"] == 200),
    "Metrics": lambda v: not (v["counters"] and v["prometheus"] and v["prometheus"]["requests"] is not None),
    "DeployProduction": lambda v: (
        v["tiers"] == sorted({*v["tiers"], 100})
        and once(gate["name"].lower() for gate in v["gates"])
        and once(v["reviews"])
    ),
    "Instance": lambda v: (
        (v["host_key"] is None) == (v["address"] == "local")
        and bool(v["reload"]["argv"]) == (v["reload"]["kind"] == "command")
        and not (v["reload"]["argv"] and v["process"])
        and not any(below.startswith(path) for path, below in pairwise(sorted(each + "/" for each in v["shared"])))
    ),
    "Fleet": lambda v: (
        once(map(str.lower, v["targets"]))
        and all(once(each["name"].lower() for each in target["instances"]) for target in v["targets"].values())
        and once((each["address"], each["root"]) for target in v["targets"].values() for each in target["instances"])
    ),
}
COMMON = {"by": "id", "head": "HeadRef", "ledger": "hash", "made_at": "time", "nonce": "nonce"}


def read_table(table: str) -> dict[str, str]:
    """First column -> second, of a table of the document."""
    rows = re.findall(r"^(\S.*?): (.*(?:\n .*)*)", table, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in rows}


def read_fields(table: str) -> dict[str, dict[str, str]]:
    """Name -> field -> shape."""
    return {name: dict(re.findall(r"`(\w+)` (.+?)(?=, `|$)", text)) for name, text in read_table(table).items()}


# Sections 4 and 8: four tables of the document, row by row in its own words; and first, what section 2 says in words.
SHAPE_TABLE = """
Record: `envelope` Envelope, `prev` hash, `seq` count, `time` time
Envelope: `payload` string 1.., `payloadType` "application/vnd.in-toto+json", `signatures` [Signature] 1
Signature: `keyid` key id, `sig` string 1..4096
Statement: `_type` "https://in-toto.io/Statement/v1", `predicate` predicate, `predicateType` string 0..256, `subject`
    [Subject] 1
Subject: `digest` Digest, `name` id
Digest: `sha256` hash
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
GateValue: `gate` id, `requests` count or null, `rest` decimal or null, `rest_requests` count or null, `value` decimal
    or null
Fleet: `targets` {id: Target} 0..1024
Target: `instances` [Instance] 1..100000, `max_unavailable` integer 1..100000, `tes` TesFile or null
Instance: `address` address, `hooks` Hooks, `host_key` host key or null, `labels` {id: string 0..256} 0..32, `metrics`
    Metrics, `name` id, `probe` Probe or null, `process` Process or null, `reload` Reload, `root` absolute path,
    `shared` [relative path] 0..64
Process: `argv` [word] 1..64, `env` {variable: value} 0..64, `stop_s` seconds, `user` id or null
Reload: `argv` [word] 0..64, `kind` "restart" or "command", `timeout_s` timeout
Probe: `hook` id or null, `status` integer 100..599, `timeout_s` timeout, `url` url or null
Metrics: `counters` Counters or null, `prometheus` Prometheus or null, `usage` "process" or "host"
Counters: `errors` word, `requests` word, `url` url
Prometheus: `cpu` word or null, `errors` word or null, `memory` word or null, `requests` word or null, `url` url
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
MOVE_TABLE = """
CLAIMED: `STARTED` -> DEPLOYING, `ABORTED` -> ABORTED, `PAUSED` -> PAUSED, stays: `BASELINE` `SANITY`
DEPLOYING: `BAKE_STARTED` -> BAKING, `PAUSED` -> PAUSED, `HALTED` -> HALTED, stays: `TIER_INTENT` `INSTANCE_APPLIED`
    `TIER_APPLIED` `BASELINE` `SAMPLE` `VERDICT` `SANITY`
BAKING: `CANARY_PROMOTED` -> PROMOTED, `COMPLETED` -> COMPLETED, `PAUSED` -> PAUSED, `HALTED` -> HALTED, stays:
    `SAMPLE` `VERDICT` `SANITY`
PROMOTED: `TIER_INTENT` -> DEPLOYING, `PAUSED` -> PAUSED, `HALTED` -> HALTED, stays: `SAMPLE` `VERDICT` `SANITY`
PAUSED: `HALTED` -> HALTED, `RESUMED` -> the phase before PAUSED, `ABORTED` -> ABORTED, stays: `INSTANCE_APPLIED`
    `TIER_APPLIED` `BASELINE` `SAMPLE` `VERDICT` `SANITY`
HALTED: `ROLLBACK_STARTED` -> ROLLING_BACK, stays: `INSTANCE_APPLIED` `TIER_APPLIED` `SANITY`
ROLLING_BACK: `ROLLED_BACK` -> ROLLED_BACK, `ROLLBACK_FAILED` -> ROLLBACK_FAILED, stays: `INSTANCE_APPLIED`
    `INSTANCE_RESTORED` `SANITY`
ROLLED_BACK: stays: `SANITY`
ROLLBACK_FAILED: `ROLLBACK_STARTED` -> ROLLING_BACK, stays: `SANITY`
COMPLETED: `ROLLBACK_STARTED` -> ROLLING_BACK, stays: `SANITY`
ABORTED: stays: `SANITY`
"""
KINDS: dict[str, dict[str, str]] = read_fields(KIND_TABLE)
EVENTS: dict[str, dict[str, str]] = read_fields(EVENT_TABLE)
FIELDS = {**read_fields(SHAPE_TABLE), **{name: {"type": "id", **fields} for name, fields in EVENTS.items()}}
# Phase -> event -> the phase after it, empty where the phase stays or the event's own rule says it.
MOVES = {phase: dict(re.findall("`([A-Z_]+)`(?: -> ([A-Z_]+))?", row)) for phase, row in read_table(MOVE_TABLE).items()}


# Section 2: records, tree, checkpoint, objects.


def parse_record(data: Any, seq: int) -> Data:
    """The record in a place. `body`: the statement's bytes."""
    try:
        need(isinstance(data, bytes) and len(data) <= 65_535, "bad_format: it is not 65,535 bytes at most")
        value = parse(data)
        need_fields(value, FIELDS["Record"])
        need(value["seq"] == seq, "bad_format: it says that it is another entry")
        (signature,), payload = value["envelope"]["signatures"], value["envelope"]["payload"]
        body, sig = unbase64(payload), unbase64(signature["sig"])
    except Refused as error:
        raise Refused(f"broken_chain: it is no record: {error.words}", seq) from None
    leaf, time = sha256(b"\x00" + data), seconds(value["time"])
    return Data(seq=seq, prev=value["prev"], time=time, body=body, keyid=signature["keyid"], sig=sig, leaf=leaf)


def tree_root(hashes: list[str]) -> str:
    """The root of the RFC 6962 tree over these leaves."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + bytes.fromhex(tree_root(hashes[:half])) + bytes.fromhex(tree_root(hashes[half:])))


def parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Origin, key id and raw key of a verifier key."""
    found = re.fullmatch(r"([^\s+\x00-\x1f]+-[0-9a-f]{8})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", text)
    origin, key_id, encoded = found.groups() if found else ("", "", "")
    data = unbase64(encoded)
    need(len(data) == 33 and data[0] == 1, "bad_format: the log's key is no verifier key of Ed25519")
    need(may_be_enrolled(data[1:]), "bad_key: the log's key is no point that may be a key")
    right = hashlib.sha256(origin.encode() + b"\n\x01" + data[1:]).digest()[:4]
    need(right.hex() == key_id, "bad_format: the verifier key's id is not that of its key")
    return origin, right, data[1:]


def parse_checkpoint(note: bytes, origin: str, key_id: bytes, raw: bytes) -> tuple[int, str]:
    """Size and root that the log signed. Whatever is wrong with it is a `bad_checkpoint`."""
    signed = False
    try:
        need(len(note) <= 262_144, "bad_checkpoint: it is too long")
        text, _, lines = note.decode("utf-8").rpartition("\n\n")
        need(not re.search(r"[\x00-\x09\x0b-\x1f]", note.decode()), "bad_checkpoint: it has control characters")
        said = re.fullmatch(r"(.*)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)", text)
        size, root = (int(said[2]), unbase64(said[3]).hex()) if said and said[1] == origin else (MAX_INT + 1, "")
        need(size <= MAX_INT, "bad_checkpoint: it is not origin, size and root of this log")
        ended = lines.endswith("\n") and lines.count("\n") <= 32
        need(ended, "bad_checkpoint: it does not end in at most 32 signatures")
        for line in lines[:-1].split("\n"):
            name, data = (re.findall(r"\A\u2014 ([^\s+]+) ([A-Za-z0-9+/=]+)\Z", line) or [("", "")])[0]
            data = unbase64(data)
            need(len(data) > 4, "bad_checkpoint: a line is no signature")
            if name == origin and data[:4] == key_id:
                verify(raw, text.encode() + b"\n", data[4:])
                signed = True
        need(signed, "bad_checkpoint: the log did not sign it")
    except Refused as error:
        raise Refused(f"bad_checkpoint: {error.words}") from None
    except UnicodeDecodeError:
        raise Refused("bad_checkpoint: it is not UTF-8") from None
    return size, root


def plain_text(text: str) -> bool:
    """Whether it is short enough for a file system, and no control character is in it."""
    return len(text.encode()) <= 4095 and not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in text)


def tree_path(path: str) -> bool:
    """Whether a path is one that a tree may hold."""
    parts = path.split("/")
    short = len(parts) <= 64 and all(len(part.encode()) <= 255 for part in parts)
    return short and plain_text(path) and not {"", ".", ".."} & set(parts)


class Objects:
    """What entries name by hash and size. `find` opens an object by the hex of its digest, or gives None."""

    def __init__(self, find: Callable[[str], io.BufferedIOBase | None]) -> None:
        self.find, self.whole = find, set[tuple[str, int]]()

    def open(self, digest: str) -> io.BufferedIOBase:
        file = self.find(digest)
        if file is None:
            raise Refused(f"object_missing: object {digest} is not there")
        return file

    def check(self, digest: str, size: int) -> None:
        """The object is there and whole."""
        if (digest, size) not in self.whole:
            with self.open(digest) as file:
                found = (hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))
            need(found == (digest, size), f"object_mismatch: object {digest} is not what its name and size say")
            self.whole.add((digest, size))

    def read(self, digest: str, size: int, limit: int) -> Any:
        """What the object says, which is canonical JSON."""
        need(size <= limit, f"too_large: object {digest} has more than {limit} bytes")
        with self.open(digest) as file:
            data = file.read(limit + 1)
        same = (sha256(data), len(data)) == (digest, size)
        need(same, f"object_mismatch: object {digest} is not what its name and size say")
        return parse(data)

    def check_tree(self, digest: str) -> None:
        """The manifest of a tree is one, and its files are there."""
        if (digest, -1) in self.whole:
            return
        with self.open(digest) as file:
            size = file.seek(0, 2)
        manifest = self.read(digest, size, MAX_MANIFEST)
        need(isinstance(manifest, list) and manifest[:1] == ["calyx-tree-v1"], "bad_format: it is no manifest")
        files, last, directories = [], b"", {""}
        for row in manifest[1:]:
            match row:
                case [str(), "file" | "exec", of, size] if fits("hash", of) and fits("count", size):
                    files.append((of, size))
                case [str(), "link", str() as target]:
                    need(target and target[0] != "/" and plain_text(target), "bad_path: a link has no lawful target")
                case [str(), "dir"]:
                    pass
                case _:
                    raise Refused(f"bad_format: a row of the tree {digest} is no file, link or directory")
            path = row[0]
            need(tree_path(path), f"bad_path: {path!r:.80} is no plain relative path")
            need(path.encode() > last, f"bad_tree: {path!r:.80} is out of order or there twice")
            need(path.rpartition("/")[0] in directories, f"bad_tree: {path!r:.80} is in no listed directory")
            last = path.encode()
            if row[1] == "dir":
                directories.add(path)
        for of, size in files:
            self.check(of, size)
        self.whole.add((digest, -1))

    def check_named(self, value: Any) -> None:
        """Everything that a value names with hash and size."""
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if isinstance(value, dict) and fits("hash", value.get("sha256")) and fits("count", value.get("size")):
            self.check(value["sha256"], value["size"])
        for each in parts:
            self.check_named(each)

    def check_all(self, says: dict[str, Any]) -> None:
        """What an entry names is there (section 9); a tree that it names by the digest alone may be kept nowhere."""
        self.check_named(says)
        if says.get("artifact", {}).get("type") == "directory":
            self.check_tree(says["artifact"]["sha256"])
        for digest in (change[side] for change in says.get("changes", []) for side in ("before", "after")):
            file = self.find(digest)
            if file is not None:
                file.close()
                self.check_tree(digest)


# Section 3: who.


def make_root(body: dict[str, Any]) -> Data:
    """A trust root. `keys`: by holder and id, with whether the user must be verified. `held`: holders and raw keys."""
    every = [(each["id"], parse_key(entry["key"]), entry) for each in body["principals"] for entry in each["keys"]]
    return Data(
        body=body, raws=[key.raw for _, key, _ in every], held={(by, key.raw) for by, key, _ in every},
        people={each["id"]: each for each in body["principals"]},
        keys={(by, key.id): (key, entry["user_verification"]) for by, key, entry in every},
        compromised={parse_key(each["key"]).raw: each["position"] for each in body["compromised"]},
    )  # fmt: skip


def check_root(root: Data, log_key: bytes) -> None:
    """What holds of every root."""
    people = root.body["principals"]
    need(once(each["id"].lower() for each in people), "bad_trust_root: two ids are the same")
    for each in people:
        human, roles = each["kind"] == "human", set(each["roles"])
        need(human or not roles & {"governor", "operator", "approver"}, "bad_trust_root: only humans decide")
        need(each["kind"] == "agent" or not roles & {"sentinel", "validator"}, "bad_trust_root: only agents review")
        for key, asks in ((entry["key"], entry["user_verification"]) for entry in each["keys"]):
            need(human if key.startswith("sk-") else not asks, "bad_trust_root: a token's key is a human's")
    need(once([*root.raws, log_key]), "bad_trust_root: a key stands twice, or is the log's")
    need(len(root.compromised) == len(root.body["compromised"]), "bad_trust_root: a compromised key stands twice")
    need(root.compromised.keys().isdisjoint(root.raws), "bad_trust_root: a compromised key is held")
    for role in ("governor", "operator"):
        custodians = {each["custodian"] for each in people if role in each["roles"]}
        need(len(custodians) >= root.body["thresholds"][role + "s"], "bad_trust_root: a threshold cannot be met")


def has_role(root: Data, role: str, by: str, raw: bytes) -> bool:
    """Whether this principal holds this key and this role."""
    return (by, raw) in root.held and role in root.people[by]["roles"]


# An entry `e` while it is judged: what (its kind), says (its predicate), by, seq, now (its time), made, leaf, digest;
# name and about (of its subject); seen (the size of its head); root, person, key, asked (of its signer).


def make_vote(e: Data, role: str) -> Data:
    """A cosignature, a review, or the proposer's part in a lease."""
    who = {"by": e.by, "raw": e.key.raw, "custodian": e.person["custodian"], "verified": e.asked}
    return Data(seq=e.seq, seen=e.seen, digest=e.digest, role=role, failed=e.says.get("verdict") == "fail", **who)


def need_role(e: Data, *roles: str) -> None:
    """The signer holds one of these roles: in the root that has the key, or in the one that its subject proposes."""
    held = [has_role(root, role, e.by, e.key.raw) for root in (e.root, e.proposed) if root for role in roles]
    need(any(held), f"role_missing: {e.by} is none of {', '.join(roles)}")


def need_kind(e: Data, kind: str) -> None:
    """The signer is of this kind."""
    need(e.person["kind"] == kind, f"wrong_kind: {e.by} is no {kind}")


def standing(subject: Data) -> list[Data]:
    """Section 6, withdrawal: cosignatures that their signers did not withdraw."""
    return [vote for vote in subject.votes if vote.seen > subject.withdrawn.get(vote.by.lower(), -1)]


ON_ANOTHER = {"review", "claim", "event", "command", "cosignature", "objection"}
PROPOSERS = {"trust": "governor", "policy": "governor", "fleet": "operator"}
FORWARD = {"STARTED", "TIER_INTENT", "BAKE_STARTED", "CANARY_PROMOTED", "RESUMED", "COMPLETED"}
ENDED = {"COMPLETED", "ROLLED_BACK", "ROLLBACK_FAILED", "ABORTED"}
ORDERED = {"PAUSED": "pause", "RESUMED": "resume", "ROLLBACK_STARTED": "rollback"}
NOT_NEXT = "head_moved: it does not follow its head at once"
CLAIMED = "lease_consumed: the lease was claimed"


class Law:
    """Judges one entry after another. What is refused leaves it unusable. `leaves`: of the entries, this one's too."""

    def __init__(self, objects: Objects, leaves: list[str]) -> None:
        self.objects, self.leaves, self.times, self.digests = objects, leaves, list[int](), set[str]()
        self.root, self.log_key, self.term = make_root({"principals": [], "compromised": []}), ("", b"", b""), (0, "")
        self.base = {"trust": ZERO, "policy": ZERO, "fleet": ZERO}  # the statement that brought each into force
        self.policies, self.targets = dict[str, Any](), dict[str, Any]()  # by their statement; of the fleet in force
        self.owner_of, self.kind_of = dict[bytes, str](), dict[str, str]()  # of every root: raw key, id in lower case
        self.intents, self.lease_ids = dict[str, str](), set[str]()  # in lower case; the target of an intent
        self.subjects, self.messages = dict[str, Data](), dict[str, int]()  # by digest: leases and proposals; seqs
        self.deployments, self.live = dict[str, Data](), dict[str, Data]()  # by the lease's digest; those that go on
        self.last_claim, self.owed = dict[str, int](), dict[str, int]()  # seq by target; until when a lease owes review

    def judge(self, record: Data) -> dict[str, Any]:
        """Section 5: every entry. Judge the next one, and let it have its effect; its predicate."""
        statement = parse(record.body)
        need_fields(statement, FIELDS["Statement"])
        says, subject, named = statement["predicate"], statement["subject"][0], statement["predicateType"]
        what = named.removeprefix("https://station.calyx/").removesuffix("/v1")
        need(what in KINDS and named == f"https://station.calyx/{what}/v1", "unknown_kind: there is no such kind")
        need_fields({name: says[name] for name in COMMON if name in says}, COMMON)
        e = Data(what=what, says=says, by=says["by"], seq=record.seq, now=record.time, leaf=record.leaf)
        e.name, e.about, e.digest = subject["name"], subject["digest"]["sha256"], sha256(record.body)
        e.made, e.seen, head, genesis = seconds(says["made_at"]), says["head"]["size"], says["head"]["hash"], not e.seq
        nothing = (says["ledger"], e.seen, head) == (ZERO, 0, ZERO)
        need(nothing if what == "genesis" else e.seen, "bad_format: genesis, and no other, has nothing before it")
        need(what in ON_ANOTHER or (e.name, e.about) == (what, sha256(canonical(says))), "bad_format: another subject")
        need((what == "genesis") == genesis, "misplaced_genesis: genesis is the first entry and no other")
        need(e.digest not in self.digests, "repeated: this statement was made before")
        need(genesis or says["ledger"] == self.leaves[0], "wrong_ledger: it is of another ledger")
        need(genesis or (e.seen <= e.seq and head == self.leaves[e.seen - 1]), "head_contradicted: it is not a prefix")
        need_fields(says, COMMON | KINDS[what])
        self.root = make_root(says["trust"]) if genesis else self.root
        self.check_signature(e, record)
        need(e.made <= e.now + 120, "clock_suspect: it was made after it was recorded")
        if e.person["kind"] != "human":
            need(e.now <= e.made + 120, "stale_statement: it was made too long before it was recorded")
            need(e.seq - e.seen <= 1024, "head_too_old: its head lags by more than 1,024 entries")
            need(genesis or e.made >= self.times[e.seen - 1], "clock_suspect: it was made before its head was")
        getattr(self, "take_" + ("proposal" if what in PROPOSERS else what))(e)
        self.times.append(e.now)
        self.digests.add(e.digest)
        return dict(says)

    def check_signature(self, e: Data, record: Data) -> None:
        e.proposed = getattr(self.subjects.get(e.about), "root", None)  # the trust root that it is about
        name, votes = (e.by, record.keyid), e.what == "cosignature" or e.says.get("verb") == "withdraw"
        e.root = e.proposed if e.proposed and votes and name not in self.root.keys else self.root
        need(name in e.root.keys, f"unknown_key: {e.by} holds no key {record.keyid}")
        (e.key, e.asked), e.person = e.root.keys[name], e.root.people[e.by]
        message = f"DSSEv1 28 application/vnd.in-toto+json {len(record.body)} ".encode() + record.body
        if e.person["kind"] == "human":
            namespace = b"approval-v1@station.calyx" if e.what == "cosignature" else b"statement-v1@station.calyx"
            check_sshsig(e.key, e.asked, namespace, message, record.sig)
        else:
            verify(e.key.raw, message, record.sig)

    def subject(self, e: Data, kinds: Iterable[str]) -> Data:
        """Section 5: the lease or proposal that an entry is about."""
        found = self.subjects.get(e.about)
        if found is None or found.name != e.name:
            raise Refused("unknown_subject: it is about nothing in this ledger")
        need(found.seq < e.seen, "head_too_old: its signer had not seen what it is about")
        need(found.kind in kinds, "unknown_subject: it is about no lease")
        return found

    def read(self, value: Any, shape: str = "[id]", limit: int = MAX_LIST) -> Any:
        """A list that stands there, or what is kept as an object."""
        if not isinstance(value, dict):
            return value
        found = self.objects.read(value["sha256"], value["size"], limit)
        need(fits(shape, found), f"bad_format: the object is not: {shape}")
        return found

    def compromised(self, vote: Data) -> bool:
        return bool(self.root.compromised.get(vote.raw, MAX_INT) <= vote.seq)

    def holds(self, vote: Data) -> bool:
        """Whether who said this still holds key and role."""
        return has_role(self.root, vote.role, vote.by, vote.raw)

    # Section 6: each kind.

    def take_genesis(self, e: Data) -> None:
        self.log_key, continues = parse_vkey(e.says["log_key"]), e.says["continues"]
        need(self.log_key[0] == e.says["origin"], "bad_genesis: the log's key is of another name")
        check_root(self.root, self.log_key[2])
        need_role(e, "governor")
        if continues is not None:
            size, last, ledger = continues["head"]["size"], continues["head"]["hash"], continues["ledger"]
            need(size > 0 and ZERO not in (last, ledger), "bad_genesis: it continues a ledger without an entry")
            need((size == 1) == (last == ledger), "bad_genesis: the first leaf of what it continues is its name")
        self.policies[e.digest] = e.says["policy"]
        self.base |= {"trust": e.digest, "policy": e.digest}
        self.enact_root(self.root)

    def enact_root(self, root: Data) -> None:
        self.root = root
        self.owner_of |= {raw: by for by, raw in root.held}
        self.kind_of |= {by.lower(): who["kind"] for by, who in root.people.items()}

    def check_follows(self, e: Data, root: Data) -> None:
        """Section 3: this trust root may follow the one in force."""
        check_root(root, self.log_key[2])
        for by, raw in root.held:
            need(self.owner_of.get(raw, by).lower() == by.lower(), "bad_trust_root: a key goes to another principal")
        for by, who in root.people.items():
            need(self.kind_of.get(by.lower(), who["kind"]) == who["kind"], "bad_trust_root: a kind changes")
        for raw, at in self.root.compromised.items():
            need(root.compromised.get(raw, MAX_INT) <= at, "bad_trust_root: a compromise is dropped, or moved back")
        need(max(root.compromised.values(), default=0) <= e.seq, "bad_trust_root: a compromise is still to come")

    def take_proposal(self, e: Data) -> None:
        need_role(e, PROPOSERS[e.what])
        need(e.says["base"] == self.base[e.what], "stale_base: its base is not in force")
        need(e.now <= seconds(e.says["approve_by"]), "approval_expired: its time for approval is over")
        root = make_root(e.says["trust"]) if e.what == "trust" else None
        if root:
            self.check_follows(e, root)
        self.read(e.says.get("fleet"), "Fleet", MAX_MANIFEST)
        same = {"kind": e.what, "name": e.what, "digest": e.digest, "seq": e.seq, "says": e.says, "root": root}
        self.subjects[e.digest] = Data(votes=[], withdrawn={}, done=False, **same)

    def take_intent(self, e: Data) -> None:
        need_role(e, "proposer")
        need(re.fullmatch(r"INT-[0-9]{8}-[0-9]{3,6}(-[0-9]{1,6})?", e.says["id"]), "bad_id: its id is not of the form")
        need(e.says["id"].lower() not in self.intents, "id_taken: its id is taken")
        self.intents[e.says["id"].lower()] = e.says["target"]

    def take_lease(self, e: Data) -> None:
        says, id_, target = e.says, e.says["id"], e.says["target"]
        need_role(e, "proposer")
        need(re.fullmatch(r"LEASE-[0-9]{8}-[0-9]{6}(-[0-9]{1,6})?", id_), "bad_id: its id is not of the form")
        need(id_.lower() not in self.lease_ids, "id_taken: its id is taken")
        need(says["intent"].lower() in self.intents, "unknown_intent: its intent is not in the ledger")
        need(self.intents[says["intent"].lower()] == target, "wrong_target: its intent is for another target")
        need(says["capability"] == "deploy_production", "unknown_capability: there is no such capability")
        self.check_bases(says)
        begin, approve = seconds(says["not_before"]), seconds(says["approve_by"])
        execute, complete = seconds(says["execute_by"]), seconds(says["complete_by"])
        need(max(begin, approve) <= execute <= complete, "bad_windows: its windows are not in order")
        need(e.now <= execute, "lease_expired: its window of execution is over")
        need(says["tiers"] == sorted({*says["tiers"], 100}), "bad_tiers: tiers do not rise and end at 100")
        need(says["rule"] == "two_key" or says["reason"], "reason_missing: breaking the glass needs a reason")
        need(target in self.targets, "unknown_target: the fleet has no such target")
        known = {instance["name"] for instance in self.targets[target]["instances"]}
        before, after = dict[str, str](), dict[str, str]()  # by instance
        for change in says["changes"]:
            names = self.read(change["instances"])
            need(known.issuperset(names), "unknown_instance: the target has no such instance")
            need(once(names) and before.keys().isdisjoint(names), "bad_changes: it names an instance twice")
            need(change["before"] != change["after"], "bad_changes: a change leads to the tree before it")
            fixed = says["artifact"]["sha256"] if says["artifact"]["type"] == "directory" else change["after"]
            need(change["after"] == fixed, "bad_changes: a change does not lead to the artifact")
            before |= dict.fromkeys(names, change["before"])
            after |= dict.fromkeys(names, change["after"])
        need(once((each["before"], each["after"]) for each in says["changes"]), "bad_changes: two changes are the same")
        need(before, "bad_changes: it changes no instance")
        self.lease_ids.add(id_.lower())
        self.subjects[e.digest] = Data(
            kind="lease", name=id_, digest=e.digest, seq=e.seq, says=says, root=None, votes=[], withdrawn={},
            paths=self.read(says["paths"], "path list"), target=target, glass=says["rule"] == "break_glass",
            proposer=make_vote(e, "proposer"), before=before, after=after, reviews=[], denied=False, done=False,
            time=e.now,
        )  # fmt: skip

    def check_bases(self, says: dict[str, Any]) -> None:
        need(says["policy"] == self.base["policy"], "stale_policy: its policy is not in force")
        need(says["fleet"] == self.base["fleet"], "stale_fleet: its fleet is not in force")

    def take_review(self, e: Data) -> None:
        need_role(e, e.says["role"])
        lease = self.subject(e, {"lease"})
        owed, again = lease.digest in self.owed, any(each.by.lower() == e.by.lower() for each in lease.reviews)
        need(owed or not lease.done, CLAIMED)
        need(owed or not again, "already_reviewed: this agent reviewed the lease")
        lease.reviews.append(make_vote(e, e.says["role"]))
        self.owed.pop(lease.digest, None)

    def take_cosignature(self, e: Data) -> None:
        subject, role, review = self.subject(e, KINDS), e.says["role"], e.says["review"]
        lease = subject if subject.kind == "lease" else None
        if lease:
            need(role in {"approver", "sentinel", "validator"}, "wrong_role: a lease is not approved in this role")
            need_role(e, role)
            need(not lease.done, CLAIMED)
            need(not lease.denied, "lease_denied: the lease was denied")
        else:
            need(role == PROPOSERS[subject.kind], "wrong_role: a proposal is cosigned in the role of its proposers")
            need(review is None, "wrong_role: a proposal is cosigned without a review")
            need_role(e, role)
            need(not subject.done, "already_in_force: it is in force")
            need(subject.says["base"] == self.base[subject.kind], "stale_base: its base is no longer in force")
        approve_by = seconds(subject.says["approve_by"])
        need(max(e.now, e.made) <= approve_by, "approval_expired: the time for approval is over")
        if role == "approver":
            need(review is None, "wrong_review: an approver names no review")
        elif lease:
            mine = [each for each in lease.reviews if each.by.lower() == e.by.lower() and each.role == role]
            named = [each for each in mine if each.digest == review]
            need(named, "wrong_review: it names no review of its signer's in this role")
            need(not named[0].failed, "review_failed: the review that it names failed")
            need(named[0].seq < e.seen, "head_too_old: its head does not hold the review")
        before = {(vote.raw, vote.role) for vote in standing(subject)}
        need((e.key.raw, role) not in before, "already_cosigned: this key cosigned it")
        subject.votes.append(make_vote(e, role))
        if not lease and subject.votes[-1] in standing(subject) and self.has_quorum(subject, role):
            self.enact(e, subject)

    def has_quorum(self, proposal: Data, role: str) -> bool:
        """Whether those who stand reach the threshold of the root in force, and of a proposed one."""
        good, enough = [vote for vote in standing(proposal) if not self.compromised(vote)], True
        for root in [self.root, proposal.root] if proposal.root else [self.root]:
            held = {root.people[vote.by]["custodian"] for vote in good if has_role(root, role, vote.by, vote.raw)}
            enough = enough and len(held) >= root.body["thresholds"][role + "s"]
        return enough

    def enact(self, e: Data, proposal: Data) -> None:
        if proposal.kind == "trust":
            self.check_follows(e, proposal.root)
            self.enact_root(proposal.root)
        elif proposal.kind == "policy":
            self.policies[proposal.digest] = proposal.says["policy"]
        else:
            self.targets = self.read(proposal.says["fleet"], "Fleet", MAX_MANIFEST)["targets"]
        self.base[proposal.kind], proposal.done = proposal.digest, True

    def take_objection(self, e: Data) -> None:
        subject, deny = self.subject(e, KINDS), e.says["verb"] == "deny"
        lease = subject.kind == "lease"
        need(lease or not deny, "wrong_subject: only a lease is denied")
        cosigners = ["approver", "sentinel", "validator"] if lease else [PROPOSERS[subject.kind]]
        need_role(e, *(["approver", "proposer"] if deny else cosigners))
        need(not subject.done, CLAIMED if lease else "already_in_force: it is in force")
        if deny:
            subject.denied = True
        else:
            subject.withdrawn[e.by.lower()] = e.seq

    def take_term(self, e: Data) -> None:
        need_kind(e, "executor")
        need(e.seen == e.seq, NOT_NEXT)
        need(e.says["epoch"] == self.term[0] + 1, "wrong_epoch: its epoch is not the next")
        self.term = (e.says["epoch"], e.by)

    def take_message(self, e: Data) -> None:
        to, reply_to = e.says["to"], e.says["reply_to"]
        known = reply_to is None or self.messages.get(reply_to, e.seq) < e.seen
        need(known, "unknown_subject: it answers nothing seen")
        need(to is None or to in self.root.people, "unknown_principal: nobody is called that")
        self.messages[e.digest] = e.seq

    # Section 7: the two-key rule.

    def take_claim(self, e: Data) -> None:
        need_kind(e, "executor")
        lease = self.subject(e, {"lease"})
        need(e.seen == e.seq, NOT_NEXT)
        self.check_term(e)
        counted = self.two_keys(e, lease)
        need(e.says["counted"] == [vote.seq for vote in counted], "wrong_count: it counts other cosignatures")
        fleet = {each["name"]: each for each in self.targets[lease.target]["instances"]}
        cohorts = self.cohorts(lease, counted, fleet)
        stated = [(each["tier"], self.read(each["instances"])) for each in e.says["cohorts"]]
        need(stated == [*cohorts.items()], "wrong_cohorts: its cohorts are others")
        seen = [(name, each["tree"]) for each in e.says["seen"] for name in self.read(each["instances"])]
        need(once(name for name, _ in seen), "bad_claim: it names an instance twice")
        need(dict(seen) == lease.before, "base_moved: not every instance is on its tree before")
        lease.done, self.last_claim[lease.target] = True, e.seq
        if lease.glass and not any(map(self.holds, lease.reviews)):
            self.owed[lease.digest] = e.now + self.terms(lease)["break_glass"]["review_within_s"]
        self.deployments[lease.digest] = self.live[lease.digest] = Data(
            lease=lease, seq=e.seq, counted=counted, cohorts=cohorts, leaf=e.leaf, phase="CLAIMED", working="CLAIMED",
            places={name: (fleet[name]["address"], fleet[name]["root"]) for name in lease.before},
            started=False, halted="", completed=0, tier=0, tier_applied=False, intended=set(), applied=set(),
            restored=set(), baseline=False, bake=0, watched=0, samples={},  # of a bake: n -> whether no value is null
            verdict=(0, "", 0, None), breach=None,  # tier, verdict, n, digest of the newest; digest of a breach
            orders={}, waiting={}, promoted={},  # digest -> verb; verb -> seq of the order; tier -> skip_bake
        )  # fmt: skip

    def check_term(self, e: Data) -> None:
        need(self.term == (e.says["epoch"], e.by), "fenced: its term is not the newest, or another's")

    def two_keys(self, e: Data, lease: Data) -> list[Data]:
        """The two cosignatures that count. Step 1 was judged at the lease's entry."""
        says, terms = lease.says, self.terms(lease)
        self.check_terms(lease, terms)
        need(e.now >= seconds(says["not_before"]), "too_early: step 3: its window of execution is to come")
        need(e.now <= seconds(says["execute_by"]), "lease_expired: step 3: its window of execution is over")
        need(e.now <= seconds(self.root.body["expires"]), "trust_expired: step 3: the trust root has expired")
        faults = [self.fault_of(vote, lease) for vote in lease.votes]
        need("" in (faults or [""]), f"{''.join(faults[:1])}: step 4: none is good, the first because of this")
        good = [vote for vote, fault in zip(lease.votes, faults, strict=True) if not fault]
        people = [vote for vote in good if vote.role == "approver"]
        others = people if lease.glass else [vote for vote in good if vote.role != "approver"]
        apart = [pair for pair in product(people, others) if self.are_apart(*pair, lease.proposer)]
        pairs = [sorted(pair, key=lambda vote: vote.seq) for pair in apart]
        if lease.glass and terms["break_glass"]["user_verification"]:
            asked = {(by, key.raw) for (by, _), (key, asked) in self.root.keys.items() if asked}
            pairs = [pair for pair in pairs if any(vote.verified and (vote.by, vote.raw) in asked for vote in pair)]
        need(pairs, "quorum_unmet: steps 5, 6: no two have the roles and differ from each other and the proposer")
        need(not lease.denied, "lease_denied: step 7: the lease was denied")
        need(not lease.done, CLAIMED)  # step 8
        self.check_free(lease)
        overdue = any(until < e.now for until in self.owed.values())
        need(lease.glass or not overdue, "review_overdue: step 8: a review is overdue")
        for role in [] if lease.glass else terms["reviews"]:
            mine = [each for each in lease.reviews if each.role == role]
            # One that failed stands while its key has the role, however the id is spelled.
            no = any(each.failed and has_role(self.root, role, self.owner_of[each.raw], each.raw) for each in mine)
            need(not no, f"review_failed: step 9: a {role} said no")
            need(any(map(self.holds, mine)), f"review_missing: step 9: there is no review by a {role}")
        return min(pairs, key=lambda pair: (pair[1].seq, pair[0].seq))

    def check_terms(self, lease: Data, terms: Any) -> None:
        """Step 2: policy and fleet are those in force, and allow what the lease asks for."""
        says = lease.says
        self.check_bases(says)
        need(self.enables(says["policy"]), "capability_disabled: the policy does not enable it")
        need(lease.target in terms["targets"], "target_not_allowed: the policy does not know the target")
        rules = terms["targets"][lease.target]["paths"]
        for path in lease.paths:
            allowed = any(path == rule or (rule[-1] == "/" and path.startswith(rule)) for rule in rules)
            need(allowed, "path_not_allowed: a path is not the policy's")
        need(says["gates"] == terms["gates"], "gates_differ: its gates are not the policy's")
        need(set(terms["tiers"]) <= set(says["tiers"]), "tiers_missing: it leaves out a tier")
        need(says["bake_s"] >= terms["bake_s"], "bake_too_short: its bake is too short")
        need(says["interval_s"] <= terms["interval_s"], "interval_too_long: its interval is too long")
        need(terms["start"] in {"auto", says["start"]}, "start_differs: the policy asks for an order to start")
        need(terms["promotion"] in {"auto", says["promotion"]}, "promotion_differs: the policy asks for an order")
        there = self.targets[lease.target]["instances"]
        used = {hook for each in (says, *there) for hook in each["hooks"].values()}
        used |= {each["probe"]["hook"] for each in there if each["probe"]}
        need(used - {None} <= terms["hooks"].keys(), "hook_not_allowed: a hook is not the policy's")
        glass, valid = terms["break_glass"], seconds(says["execute_by"]) - lease.time
        need(not lease.glass or glass["enabled"], "break_glass_disabled: nobody may break the glass")
        need(not lease.glass or valid <= glass["max_validity_s"], "break_glass_too_long: it is valid for too long")

    def terms(self, lease: Data) -> Any:
        return self.policies[lease.says["policy"]]["deploy_production"]

    def enables(self, policy: str) -> bool:
        phase, terms = self.policies[policy]["phases"]["3"], self.policies[policy]["deploy_production"]
        listed = phase["status"] == "implemented" and "deploy_production" in phase["capabilities"]
        return bool(listed and terms["enabled"])

    def fault_of(self, vote: Data, lease: Data) -> str:
        """Step 4: why a cosignature is not good, empty when it is."""
        if vote not in standing(lease):
            return "withdrawn"
        return "key_compromised" if self.compromised(vote) else "" if self.holds(vote) else "role_missing"

    def are_apart(self, *votes: Data) -> bool:
        """Step 6: two votes and the proposer differ in principal, raw key, and custodian, then and now."""
        now = {by.lower(): who["custodian"] for by, who in self.root.people.items()}
        then = [[vote.by.lower() for vote in votes], [vote.raw for vote in votes], [vote.custodian for vote in votes]]
        return all(map(once, [*then, [now.get(vote.by.lower(), vote.custodian) for vote in votes]]))

    def check_free(self, lease: Data) -> None:
        """Step 8: nothing else is live on the target, or at an address and root of the lease's instances."""
        mine, fleet = self.deployments.get(lease.digest), self.targets.get(lease.target, {"instances": []})["instances"]
        places = {(each["address"], each["root"]) for each in fleet if each["name"] in lease.before}
        places = set(mine.places.values()) if mine else places
        for other in self.live.values():
            there = other.lease.target == lease.target or not places.isdisjoint(other.places.values())
            need(other is mine or not there, "target_busy: step 8: the target has a live deployment")

    def cohorts(self, lease: Data, counted: list[Data], fleet: dict[str, Any]) -> dict[int, list[str]]:
        """Which instances each tier adds."""
        last = bytes.fromhex(self.leaves[counted[1].seq])
        key = hashlib.sha256(b"calyx-cohort-v1" + bytes.fromhex(lease.digest) + last).digest()
        hashed = sorted(lease.before, key=lambda name: hmac.digest(key, name.encode(), "sha256"))
        ordered = sorted(hashed, key=lambda name: fleet[name]["labels"].get("canary") != "true")
        reach = {(tier * len(ordered) + 99) // 100: tier for tier in lease.says["tiers"]}
        return {reach[end]: ordered[start:end] for start, end in pairwise([0, *reach])}

    # Section 8: deployments.

    def take_command(self, e: Data) -> None:
        need_role(e, "approver", "operator")
        lease, says, verb, tier = self.subject(e, {"lease"}), e.says, e.says["verb"], e.says["tier"]
        need(max(e.now, e.made) <= seconds(says["expires_at"]), "command_expired: its time is over")
        need(lease.done, "not_claimed: the lease was not claimed")
        d, bound, promotes = self.deployments[lease.digest], verb in {"start", "resume", "promote"}, verb == "promote"
        need(promotes == (tier is not None), "bad_command: promote, and no other, names a tier")
        need(promotes or not says["skip_bake"], "bad_command: promote alone skips a bake")
        need(bound == (says["state"] is not None), "bad_command: start, resume and promote, and no other, name a state")
        need(d.phase not in ENDED or verb == "rollback", "deployment_ended: the deployment ended")
        need(not bound or says["state"] == d.leaf, "stale_command: something happened since")
        waits = {
            "start": lease.says["start"] == "command" and not d.started,
            "resume": d.phase == "PAUSED" or "pause" in d.waiting,
            "promote": d.working == "BAKING" and d.tier == tier,
        }
        need(waits.get(verb, True), "bad_command: nothing waits for this order")
        if verb in {"resume", "promote"}:
            missing = d.verdict[:2] == (d.watched, "missing")
            need(not d.breach and not missing, "health_refused: no order overrides the monitor")
            may_skip = self.terms(lease)["skip_bake"]
            need(may_skip or not says["skip_bake"], "skip_not_allowed: the policy lets nobody skip a bake")
        if verb == "rollback" and d.phase in ENDED:
            self.check_rollback(e, d)
        if promotes:
            d.promoted[tier] = says["skip_bake"]
        elif verb == "resume":
            d.waiting.pop("pause", None)
        else:
            d.waiting[verb] = e.seq
        d.orders[e.digest], d.leaf = verb, e.leaf

    def check_rollback(self, e: Data, d: Data) -> None:
        """A deployment that ended may be taken back."""
        need(d.phase in {"COMPLETED", "ROLLBACK_FAILED"}, "nothing_to_roll_back: there is nothing to take back")
        kept = d.phase != "COMPLETED" or e.now <= d.completed + self.terms(d.lease)["retention_s"]
        need(kept, "retention_over: what was there before is no longer kept")
        self.check_free(d.lease)
        mine = {d.places[name] for name in d.intended}
        for later in self.deployments.values():
            there = later.seq > d.seq and mine & {later.places[name] for name in later.intended}
            need(not there, "superseded: a later deployment was there")

    def take_event(self, e: Data) -> None:
        lease, told, type_ = self.subject(e, {"lease"}), e.says["detail"], e.says["detail"]["type"]
        monitors = type_ in {"BASELINE", "SAMPLE", "VERDICT"}
        if monitors or type_ == "SANITY":
            need(e.says["epoch"] is None, "bad_event: only an executor has an epoch")
            need_kind(e, "monitor") if monitors else need_role(e, "validator")
        else:
            need_kind(e, "executor")
            self.check_term(e)
        need(lease.done or type_ == "PREFLIGHT_FAILED", "not_claimed: the lease was not claimed")
        need(not lease.done or type_ != "PREFLIGHT_FAILED", CLAIMED)
        if not lease.done:
            return
        d = self.deployments[lease.digest]
        need(type_ in MOVES[d.phase], f"illegal_transition: not while it is {d.phase}")
        if type_ in FORWARD:
            self.check_forward(e, d)
        if monitors:
            self.look(e, d, told)
        else:
            self.step(e, d, told)
        d.phase = MOVES[d.phase][type_] or (d.working if type_ == "RESUMED" else d.phase)
        d.working = d.working if d.phase == "PAUSED" else d.phase
        d.leaf = d.leaf if e.says["epoch"] is None else e.leaf
        self.live[lease.digest] = d
        if d.phase in ENDED:
            del self.live[lease.digest]

    def check_forward(self, e: Data, d: Data) -> None:
        says, policy = d.lease.says, self.base["policy"]
        need(e.now <= seconds(says["complete_by"]), "complete_by_passed: the time to complete is over")
        enabled = self.enables(policy) and d.lease.target in self.policies[policy]["deploy_production"]["targets"]
        need(enabled, "capability_disabled: the policy in force does not enable it")
        need(not any(map(self.compromised, d.counted)), "tainted: a counted cosignature is by a compromised key")
        need(not {"abort", "rollback"} & d.waiting.keys(), "stopped: it was ordered to stop")
        need(d.breach is None, "health_refused: the monitor said stop")
        need("pause" not in d.waiting, "paused: it was ordered to pause")

    def step(self, e: Data, d: Data, told: Any) -> None:
        """What the executor did."""
        says, type_, name, tier = d.lease.says, told["type"], told.get("instance"), told.get("tier")
        following = next((each for each in d.cohorts if each > d.tier), None)
        given = told.get("command") is None or d.orders.get(told["command"]) == ORDERED[type_]
        need(given, "unknown_command: it names no such order")
        match type_:
            case "STARTED":
                need(e.now <= seconds(says["execute_by"]), "lease_expired: its window of execution is over")
                need(says["start"] == "auto" or "start" in d.waiting, "start_not_ordered: nobody ordered it to start")
                d.started = True
            case "TIER_INTENT":
                need(d.phase == "PROMOTED" or d.tier == 0, "illegal_transition: the tier before was not promoted")
                need(tier == following, "wrong_tier: it is not the next tier")
                need(d.baseline, "no_baseline: there is no baseline")
                d.tier, d.tier_applied = tier, False
                d.intended |= set(d.cohorts[tier])
            case "INSTANCE_APPLIED":
                need(name in d.cohorts.get(tier, []) and name in d.intended, "not_intended: not of this tier's intent")
                need(name not in d.applied | d.restored, "repeated: its result was told before")
                need(told["tree"] == d.lease.after[name], "wrong_tree: it is not on its tree after")
                d.applied.add(name)
            case "TIER_APPLIED":
                need(tier == d.tier and not d.tier_applied, "wrong_tier: it is not the newest, or was applied before")
                need(d.intended <= d.applied, "not_applied: an instance is not applied")
                d.tier_applied = True
            case "BAKE_STARTED":
                need(tier == d.tier and d.tier_applied, "wrong_tier: it is not the newest tier, or not applied")
                d.bake, d.watched, d.samples = e.now, tier, {}
            case "CANARY_PROMOTED":
                need((tier, told["to"]) == (d.tier, following), "wrong_tier: it does not lead to the next tier")
                need(says["promotion"] == "auto" or d.tier in d.promoted, "promotion_not_ordered: nobody ordered it")
            case "COMPLETED":
                need(following is None, "wrong_tier: it is not the last tier")
                d.completed = e.now
            case "ABORTED":
                need(not d.started, "illegal_transition: it has started")
            case "HALTED":
                need(d.started, "illegal_transition: it has not started")
                need(told["evidence"] in {None, d.verdict[3], d.breach, *d.orders}, "unknown_evidence: it is another's")
                d.halted = told["cause"]
            case "ROLLBACK_STARTED":
                # A later claim on the target ends an order that was not taken up.
                ordered = d.waiting.get("rollback", -1) > self.last_claim[d.lease.target]
                free = d.phase not in ENDED and d.halted != "tainted"
                need(free or ordered, "rollback_not_ordered: nobody ordered it")
                if d.phase in ENDED:
                    self.check_rollback(e, d)
                d.restored = set()
            case "INSTANCE_RESTORED":
                need(name in d.intended, "not_intended: it was never to change")
                need(name not in d.restored, "repeated: it was restored before")
                need(told["tree"] == d.lease.before[name], "wrong_tree: it is not on its tree before")
                d.restored.add(name)
            case "ROLLED_BACK":
                need(d.intended <= d.restored, "not_restored: an instance is not restored")
            case "ROLLBACK_FAILED":
                left = sorted(d.intended - d.restored)
                need(sorted(self.read(told["instances"])) == left, "wrong_instances: it does not name what is left")
                d.waiting.pop("rollback", None)
            case _:  # PAUSED, RESUMED, SANITY
                pass
        if type_ in {"CANARY_PROMOTED", "COMPLETED"}:
            newest, wanted = max(d.samples, default=0), -(-says["bake_s"] // says["interval_s"])
            need(sum(d.samples.values()) >= wanted or d.promoted.get(d.tier), "not_baked: the bake is not over")
            need(d.verdict[:3] == (d.tier, "pass", newest), "not_healthy: no pass on the newest sample")

    def look(self, e: Data, d: Data, told: Any) -> None:
        """What the monitor saw."""
        newest = max(d.samples, default=0)
        match told["type"]:
            case "BASELINE":
                need(not d.baseline and d.tier == 0, "late_baseline: there is one, or a tier was changed")
                absent = set(d.lease.before.values()) == {"absent"}
                need(absent == (told["values"] is None), "bad_baseline: values are null exactly where nothing was")
                d.baseline = True
            case "SAMPLE":
                need(d.watched, "not_baking: no tier baked yet")
                need(told["tier"] == d.watched, "wrong_tier: it is not the tier that is watched")
                need(told["n"] > newest, "repeated: its number does not rise")
                due = d.bake + told["n"] * d.lease.says["interval_s"] - 1
                need(min(e.made, e.now) >= due, "early_sample: its interval is not over")
                d.samples[told["n"]] = all(each["value"] is not None for each in told["values"])
            case _:  # VERDICT
                on_newest = (told["tier"], told["n"]) == (d.watched, newest)
                need(on_newest, "wrong_sample: it is not on the tier's newest sample")
                need(newest or told["verdict"] != "pass", "not_healthy: nothing was seen that could pass")
                d.verdict = (told["tier"], told["verdict"], newest, e.digest)
                d.breach = d.breach or (e.digest if told["verdict"] in {"breach", "abort"} else None)
        if told.get("values") is not None:
            gates, valued = [each["name"] for each in d.lease.says["gates"]], [each["gate"] for each in told["values"]]
            need(sorted(valued) == sorted(gates), "bad_values: it is not one value for each gate")


# Section 9: the whole.


def open_checkpoint(first: bytes, note: bytes) -> tuple[int, str] | None:
    """The checkpoint, by the log key of record 0; None when that is not lawful, which the law says later."""
    law = Law(Objects(lambda _: None), [])
    try:
        law.judge(parse_record(first, 0))
    except Refused:
        return None
    return parse_checkpoint(note, *law.log_key)


def follow_chain(records: Iterable[bytes], note: bytes, leaves: list[str]) -> Iterator[Data]:
    """Each record, once what follows it confirms it; its leaf is among the leaves then."""
    last, end, rest = None, None, iter(records)
    for seq, data in enumerate(rest):
        end = open_checkpoint(data, note) if seq == 0 else end
        need(end is None or seq < end[0], "broken_chain: the checkpoint does not cover it", seq)
        record = parse_record(data, seq)
        if record.prev != (last.leaf if last else ZERO):
            changed = seq - (last is not None and confirms(record, next(rest, None), leaves, last, end))
            raise Refused("broken_chain: it was changed", changed)
        if last:
            need(record.time >= last.time, "broken_chain: its time is before that of the entry before", seq)
            leaves.append(last.leaf)
            yield last
        last = record
    if last is None:
        raise Refused("no_genesis: the ledger is empty")
    size = last.seq + 1
    need(end is None or size == end[0], "broken_chain: the checkpoint covers it, and it is not there", size)
    need(end is None or tree_root([*leaves, last.leaf]) == end[1], "broken_chain: another one was signed", last.seq)
    leaves.append(last.leaf)
    yield last


def confirms(record: Data, following: bytes | None, leaves: list[str], last: Data, end: tuple[int, str] | None) -> bool:
    """Whether what follows a record names its leaf, so that the record before it is the one that was changed."""
    if following is None:
        roots = [tree_root([*leaves, before, record.leaf]) for before in (last.leaf, record.prev)]
        return end is not None and end[0] == record.seq + 1 and end[1] in roots
    try:
        value = parse(following)
        return fits("Record", value) and bool(value["prev"] == record.leaf)
    except Refused:
        return False


def examine(records: Iterable[bytes], note: bytes, objects: Objects, leaves: list[str]) -> Refused | None:
    """What is wrong first in a ledger. `leaves`: gets those of the entries whose bytes and chain are right."""
    law, wrong = Law(objects, leaves), None
    try:
        for record in follow_chain(records, note, leaves):
            try:
                if wrong is None:
                    objects.check_all(law.judge(record))
            except Refused as error:
                wrong = Refused(str(error), record.seq)
    except Refused as error:
        return wrong or error
    return wrong


def read_database(path: Path) -> tuple[Iterator[bytes], bytes]:
    """The records, and the newest checkpoint, of a ledger's file, as of one moment."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.execute("BEGIN")
    tip = connection.execute("SELECT CAST(checkpoint AS BLOB) FROM tip").fetchone() or (b"",)
    rows = connection.execute("SELECT seq, data FROM record ORDER BY seq")
    return (data for seq, (place, data) in enumerate(rows) if place == seq), tip[0] or b""


# Section 11: exports.

RECORD_BEGINS = b'{"envelope":{"payload":"'
MAX_BUNDLE = 256 * 65_537


def read_whole(path: Path, limit: int) -> bytes | None:
    """A file's content; nothing when it is a link, no file, or longer; None when it is not there."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
        return b"" if path.is_symlink() or path.exists() else None
    return path.read_bytes()


def read_tile(root: Path, kind: str, index: int, width: int) -> dict[int, bytes | None]:
    """The file of a tile by its width, 256 where the full one stands for it, and then narrower ones that lie beside."""
    digits = str(index).zfill(-(-len(str(index)) // 3) * 3)
    full = root / "tile" / kind / re.sub(r"(\d{3})(?=\d)", r"x\1/", digits)
    beside = full.with_name(full.name + ".p")
    widths = {int(each.name) for each in beside.glob("*") if re.fullmatch("[1-9][0-9]{0,2}", each.name)}
    newest = (width, beside / str(width)) if width in widths else (256, full)
    files = [newest, *((each, beside / str(each)) for each in sorted(widths) if each < width)]
    return {each: read_whole(path, MAX_BUNDLE) for each, path in files}


def read_bundles(root: Path, size: int, odd: list[Refused]) -> Iterator[bytes]:
    """The records of an export. `odd`: gets what older files say that the newest do not."""
    for start in range(0, size, 256):
        count = min(256, size - start)
        (width, found), *older = read_tile(root, "entries", start // 256, count).items()
        data, cuts = found or b"", [0]  # cuts: where each record ends; it stands behind its length
        while len(cuts) <= width and cuts[-1] + 2 <= len(data):
            cuts.append(cuts[-1] + 2 + int.from_bytes(data[cuts[-1] : cuts[-1] + 2], "big"))
        whole = len(cuts) > width and cuts[-1] == len(data)
        for narrow, old in older if whole else []:
            if old != data[: cuts[narrow]]:
                other = [at for at in range(narrow) if (old or b"")[: cuts[at + 1]] != data[: cuts[at + 1]]]
                number = start + [*other, narrow - 1][0]
                odd.append(Refused("tile_mismatch: an older bundle holds another entry", number))
        for number in range(count):
            at, end = cuts[number : number + 2] if number + 1 < len(cuts) else (0, len(data) + 1)
            # Where lengths do not lead to the end, the first one that leads to no record is the wrong one.
            led = whole or end == len(data) or (number < count - 1 and data.startswith(RECORD_BEGINS, end + 2))
            need(led and end <= len(data), "export_damaged: its bundle does not hold it", start + number)
            yield data[at + 2 : end]


def check_tiles(root: Path, size: int, hashes: list[str]) -> Iterator[Refused]:
    """Compare the tiles of an export of `size` with these leaves. An error names the first entry below a hash."""
    level = 0
    while hashes:
        for start in range(0, len(hashes), 256):
            wanted = bytes.fromhex("".join(hashes[start : start + 256]))
            files = read_tile(root, str(level), start // 256, min(256, (size >> 8 * level) - start))
            for width, data in files.items():
                if data is None:
                    yield Refused(f"tile_missing: a tile of level {level} is not there", start << 8 * level)
                elif len(data) != 32 * width:
                    yield Refused(f"tile_mismatch: a tile of level {level} has another size", start << 8 * level)
                else:
                    places = range(0, min(len(data), len(wanted)), 32)
                    wrong = [start + at // 32 for at in places if data[at : at + 32] != wanted[at : at + 32]]
                    text = f"tile_mismatch: a hash of level {level} is not that of its entries"
                    yield from (Refused(text, first << 8 * level) for first in wrong)
        hashes = [tree_root(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
        level += 1


def examine_export(root: Path, objects: Objects, leaves: list[str]) -> Refused | None:
    """What is wrong first in an export: in its records, as in any ledger, or in its tiles."""
    note = read_whole(root / "checkpoint", 262_144) or b""
    said = re.match(rb"[^\n]*\n([0-9]{1,16})\n", note)
    if said is None:
        return Refused("bad_checkpoint: it is no checkpoint")
    size, odd = int(said[1]), list[Refused]()
    wrong = examine(read_bundles(root, size, odd), note, objects, leaves)
    found = [*([wrong] if wrong else []), *odd, *check_tiles(root, size, leaves)]
    return min(found, key=lambda error: -1 if error.entry is None else error.entry, default=None)


def main() -> int:
    """Say whether a ledger is right."""
    parser = argparse.ArgumentParser(description="A second opinion on a ledger.")
    parser.add_argument("ledger", type=Path, help="a home, its ledger.db, or an export")
    parser.add_argument("--objects", type=Path, help="the folder of objects; beside the ledger's file when left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    path = arguments.ledger / "ledger.db" if arguments.ledger.is_dir() else arguments.ledger
    folder = arguments.objects or path.parent / "objects"

    def find(digest: str) -> io.BufferedIOBase | None:
        file = folder / digest[:2] / digest[2:]
        return file.open("rb") if file.is_file() else None

    objects, leaves = Objects(find), list[str]()
    try:
        exported = not path.exists() and (path.parent / "checkpoint").exists()
        if exported:
            wrong = examine_export(path.parent, objects, leaves)
        else:
            wrong = examine(*read_database(path), objects, leaves)
    except (sqlite3.Error, OSError) as error:
        print(f"second_opinion: {path}: {error}", file=sys.stderr)
        return 1
    said = {"ok": wrong is None, "size": len(leaves), "head": leaves[-1] if leaves else ZERO, "root": tree_root(leaves)}
    fault = {"code": wrong.code, "entry": wrong.entry, "message": wrong.words} if wrong else {}
    if arguments.json:
        print(json.dumps({**said, "code": None, "entry": None, "message": None, **fault}, sort_keys=True))
    elif wrong:
        print(f"NOT OK: {'the ledger' if wrong.entry is None else f'entry {wrong.entry}'}: {wrong}")
    else:
        print(f"ok: {said['size']} entries", f"head {said['head']}", f"root {said['root']}", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
