#!/usr/bin/env python3
"""A second opinion on a ledger: every byte, signature and rule, by one file that uses nothing of this project.

    python scripts/second_opinion.py LEDGER [--objects DIR] [--json]

LEDGER is a home, its `ledger.db`, or an export. Needs Python 3.11 and the package `cryptography`. Prints the number of
entries, the newest head and the root of the tree, and ends with 0; or prints the first entry that is wrong, and the
code of what is wrong with it, and ends with 1. With 5 when there is no ledger, or when it cannot print what it found.

It was written from docs/FORMAT.md, whose sections the headings below name. `need(code=fact)` is a rule: the code of
that page by which what has not that fact is refused. Rules are judged in the order in which they stand. Records are
read once; leaves and the law's state are held in memory. A cut end cannot be seen here: compare the size and the head
with what you remember.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import cache, lru_cache
from itertools import accumulate, pairwise, product, takewhile
from math import isfinite
from pathlib import Path
from types import SimpleNamespace as Data
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_INT = 2**53 - 1
MAX_LIST, MAX_MANIFEST = 16 * 2**20, 64 * 2**20
ZERO = "0" * 64


class Refused(Exception):
    """What is wrong: a code of docs/FORMAT.md, perhaps more in words, and where; None for the ledger as a whole."""

    def __init__(self, code: str, words: str = "", entry: int | None = None) -> None:
        super().__init__(f"{code}: {words}" if words else code)
        self.code, self.words, self.entry = code, words, entry


def need(words: str = "", entry: int | None = None, /, **rules: object) -> None:
    """Rules, in their order: refuse by the first code whose fact does not hold."""
    for code, fact in rules.items():
        if not fact:
            raise Refused(code, words, entry)


def sha256(*parts: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(b"".join(parts)).hexdigest()


def once(values: Iterable[Any]) -> bool:
    """Whether each value stands once."""
    every = list(values)
    return len(set(every)) == len(every)


# Section 1: values.


def number(text: str) -> Any:
    """A number, and what is none of ours as `...`, which cannot be written again. What no float holds is no number."""
    if not isfinite(float(text)):
        raise ValueError(text)
    return int(text) if text.lstrip("-").isdigit() and 0 <= int(text) <= MAX_INT else ...


# An object with a key that is not ASCII is `...`, too.
NUMBERS: dict[str, Any] = dict.fromkeys(("parse_int", "parse_float", "parse_constant"), number)
DECODER = json.JSONDecoder(
    object_pairs_hook=lambda each: dict(each) if "".join(dict(each)).isascii() else ..., **NUMBERS
)
ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def canonical(value: Any) -> bytes:
    """The one encoding of a value."""
    return ENCODER.encode(value).encode("utf-8")


def parse(data: bytes) -> Any:
    """What canonical JSON says. What has a bracket 17 deep is `too_deep`, whatever else is wrong with it."""
    brackets = re.findall(rb"[\[\]{}]", STRING.sub(b"", data))
    need(too_deep=max(accumulate(1 if each in b"[{" else -1 for each in brackets), default=0) <= 16)
    try:
        value = DECODER.decode(data.decode("utf-8"))
        same = canonical(value) == data
        # Half of a surrogate pair is no text, also where a second field of the same name hides it.
        "".join([] if same else map(json.loads, STRING.findall(data))).encode()
    except (TypeError, ValueError):
        raise Refused("bad_format", "it is not JSON of plain values") from None
    need(not_canonical=same)
    return value


def unbase64(text: str) -> bytes:
    """Decode the one spelling of these bytes."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        data = b""
    need("it is not base64, or not the one spelling", bad_format=base64.b64encode(data).decode() == text)
    return data


@lru_cache(maxsize=4096)
def seconds(text: str) -> int:
    """Seconds since 1970 of a time."""
    return int(datetime.fromisoformat(text).timestamp())


def parts_of(data: bytes, *sizes: int | None) -> list[bytes]:
    """Parts of these sizes, None for an RFC 4251 string, which stands behind its own length; and nothing after them."""
    parts, at = [], 0
    for size in sizes:
        start = at if size else at + 4
        at = start + (size or int.from_bytes(data[at:start], "big"))
        parts.append(data[start:at])
    need("it ends too early, or something follows", bad_format=at == len(data))
    return parts


def tidy(path: str) -> bool:
    """Whether no segment is empty, `.` or `..`."""
    return not {"", ".", ".."} & set(path.split("/"))


# Sections 1 and 2: keys and signatures.

PRIME, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, -1, PRIME) % PRIME
KEY_SIZES = {"ssh-ed25519": [None, None], "sk-ssh-ed25519@openssh.com": [None, None, None]}


@lru_cache(maxsize=4096)
def may_be_enrolled(raw: bytes) -> bool:
    """Whether it is the canonical encoding of a point of the prime-order group other than the identity."""

    def add(p: tuple[int, int], q: tuple[int, int]) -> tuple[int, int]:
        cross = CURVE_D * p[0] * q[0] * p[1] * q[1]
        x = (p[0] * q[1] + q[0] * p[1]) * pow(1 + cross, -1, PRIME)
        return x % PRIME, (p[1] * q[1] + p[0] * q[0]) * pow(1 - cross, -1, PRIME) % PRIME

    y = int.from_bytes(raw, "little") % 2**255
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    root = pow(square, (PRIME + 3) // 8, PRIME)
    xs = [x for x in (root, root * pow(2, (PRIME - 1) // 4, PRIME) % PRIME) if x * x % PRIME == square]
    if len(raw) != 32 or y >= PRIME or y == 1 or not xs:
        return False
    # The sign does not matter: a point and its negative have the same order.
    point, result, left = (xs[0], y), (0, 1), ORDER
    while left:
        result = add(result, point) if left & 1 else result
        point, left = add(point, point), left >> 1
    return result == (0, 1)


def verify(raw: bytes, message: bytes, signature: bytes) -> None:
    """A signature is good as libsodium sees it. `raw` may be enrolled.

    Of the prime-order group only the identity has a small order, so no other R of small order can come out below;
    OpenSSL takes no S past the order, and compares R as bytes, so only in its canonical form.
    """
    need("its R is of small order", bad_signature=signature[:32] != bytes([1, *[0] * 31]))
    try:
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("bad_signature") from None


@lru_cache(maxsize=4096)
def parse_key(line: str) -> Data:
    """The key of a key line. `application`: empty unless a hardware token holds it."""
    type_, _, text = line.partition(" ")
    need(unsupported_key=type_ in KEY_SIZES)
    blob = unbase64(text)
    named, raw, application = [*parts_of(blob, *KEY_SIZES[type_]), b""][:3]
    need("the type inside differs", bad_format=named == type_.encode())
    need(bad_format=type_[:3] == "ssh" or re.fullmatch(rb"ssh:[ -~]{0,251}", application))
    need("it is no point that may be a key", bad_format=may_be_enrolled(raw))
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode()
    return Data(raw=raw, blob=blob, application=application, id="SHA256:" + digest.rstrip("="))


def check_sshsig(key: Data, user_verification: bool, namespace: bytes, message: bytes, blob: bytes) -> None:
    """A person's signature is good."""
    magic, signer, named, reserved, hash_, inner = parts_of(blob, 10, None, None, None, None, None)
    need(bad_format=(magic, reserved, hash_) == (b"SSHSIG\0\0\0\1", b"", b"sha512"))
    type_ = signer[4 : 4 + int.from_bytes(signer[:4], "big")]
    need(unsupported_key=type_.decode("latin-1") in KEY_SIZES)
    of_type, signature, *flags = parts_of(inner, None, None, *([5] if type_.startswith(b"sk-") else []))
    need("its type is not the key's, or it has not 64 bytes", bad_format=of_type == type_ and len(signature) == 64)
    need(wrong_key=signer == key.blob, wrong_namespace=named == namespace)
    strings = (namespace, b"", b"sha512", hashlib.sha512(message).digest())
    signed = b"SSHSIG" + b"".join(len(each).to_bytes(4, "big") + each for each in strings)
    if flags:
        need(user_absent=flags[0][0] & 1, user_unverified=flags[0][0] & 4 or not user_verification)
        signed = hashlib.sha256(key.application).digest() + flags[0] + hashlib.sha256(signed).digest()
    verify(key.raw, signed, signature)


# Sections 1 and 4: shapes, written as the document writes them.


@cache
def read_shape(text: str) -> tuple[list[str], Any]:
    """What stands around the `or` of a shape; and the parts of an integer, a string, a list, an object of any names."""
    form = re.fullmatch(r"(?:(integer)|(string)|\[(.+)\]|\{(\w+): (.+)\}) ?(\d*)(\.\.)?(\d*)", text)
    return re.split(r" or (?![^\[]*\])", text), form.groups() if form else None


def fits(text: str, v: Any) -> bool:
    """Whether a value has a shape: `[id] 1..`, `{id: Hook} 0..64`, `integer 1..9`, `"a" or null`, or one by name."""
    some, form = read_shape(text)
    if len(some) > 1:
        return any(fits(each, v) for each in some)
    if form:
        integer, string, item, key, value, least, dots, most = form
        low, high = int(least or 0), int(most or (MAX_INT if dots or not least else least))
        kind: Any = int if integer else str if string else list if item else dict
        if type(v) is not kind or not low <= (v if integer else len(v)) <= high:
            return False
        if item:
            return all(fits(item, each) for each in v)
        return not key or all(fits(key, name) and fits(value, v[name]) for name in v)
    if text in FIELDS:
        same = isinstance(v, dict) and v.keys() == FIELDS[text].keys()
        good = same and all(fits(FIELDS[text][name], v[name]) for name in v)
    elif text in PATTERNS:
        good = isinstance(v, str) and re.fullmatch(PATTERNS[text], v, re.DOTALL) is not None
    elif text in OTHERS:
        good = fits(OTHERS[text], v)
    else:  # a string or number that is meant itself
        good = text in RULES or canonical(v).decode() == text
    try:
        return good and (text not in RULES or RULES[text](v) is not False)
    except (Refused, ValueError):  # a key that is none, a date that does not exist
        return False


CONTROL = r"\x00-\x1f\x7f"
LABEL = "[a-z0-9][a-z0-9-]{0,62}"
PORT = r"(?!22\Z)([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
PATTERNS = {
    "hash": "[0-9a-f]{64}",
    "nonce": "[0-9a-f]{32}",
    "id": "[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    "key id": "SHA256:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]",
    "time": "[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}Z",
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
OTHERS = {"boolean": "true or false", "count": "integer 0..", "text": "string 0..4096", "percent": "integer 1..100"}
OTHERS |= {"seconds": "integer 0..31622400", "timeout": "integer 1..31622400"}
OTHERS |= {"names": "ObjectRef or [id] 0..256", "paths": "ObjectRef or path list", "path list": "[string 1..4096]"}
# What must be true besides: is not False, and does not refuse.
RULES: dict[str, Callable[[Any], object]] = {
    "predicate": lambda v: isinstance(v, dict),
    "time": seconds,
    "absolute path": lambda v: tidy(v[1:]),
    "relative path": tidy,
    "key line": parse_key,
    "host key": parse_key,
    "paths": lambda v: len(v) <= 256,
    "path list": lambda v: v == sorted(set(v), key=str.encode) and all(tidy(path.removesuffix("/")) for path in v),
    "Principal": lambda v: v["roles"] == sorted(set(v["roles"])),
    "Gate": lambda v: v["against"] == "absolute" or v["absolute"] is not None,
    "Prometheus": lambda v: (v["requests"] is None) == (v["errors"] is None) and {*v.values()} != {None, v["url"]},
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

# Sections 4 and 8: the tables of the document, row by row in its own words; first, what section 2 says in words.
SHAPES = """
Record: `envelope` Envelope, `prev` hash, `seq` count, `time` time
Envelope: `payload` string 1.., `payloadType` "application/vnd.in-toto+json", `signatures` [Signature] 1
Signature: `keyid` key id, `sig` string 1..4096
Statement: `_type` "https://in-toto.io/Statement/v1", `predicate` predicate, `predicateType` string, `subject` [Subject]
    1
Subject: `digest` Digest, `name` id
Digest: `sha256` hash
Common: `by` id, `head` HeadRef, `ledger` hash, `made_at` time, `nonce` nonce
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
PHASES = """
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


def read_table(table: str, cell: str = r"`(\w+)` (.+?)(?=, `|$)") -> dict[str, dict[str, str]]:
    """Rows of a table: name -> field -> shape."""
    rows = re.findall(r"^(\S.*?): (.*(?:\n .*)*)", table, re.MULTILINE)
    return {name: dict(re.findall(cell, " ".join(text.split()))) for name, text in rows}


FIELDS = read_table(SHAPES)
KINDS = {what: FIELDS["Common"] | fields for what, fields in FIELDS.items() if what.islower()}
EVENTS = {type_: {"type": f'"{type_}"'} | fields for type_, fields in FIELDS.items() if type_.isupper()}
FIELDS |= KINDS | EVENTS
OTHERS["event detail"] = " or ".join(EVENTS)
ON_ANOTHER = {"review", "claim", "event", "command", "cosignature", "objection"}
# Phase -> event -> the phase after it, empty where the phase stays or the event's own rule says it.
MOVES = read_table(PHASES, "`([A-Z_]+)`(?: -> ([A-Z_]+))?")


# Section 2: records, tree, checkpoint.


def parse_record(data: Any, seq: int) -> Data:
    """The record in a place. `body`: the statement's bytes."""
    try:
        need("it is not 65,535 bytes at most", bad_format=isinstance(data, bytes) and len(data) <= 65_535)
        value = parse(data)
        need("its fields are others", bad_format=fits("Record", value) and value["seq"] == seq)
        (signature,), payload = value["envelope"]["signatures"], value["envelope"]["payload"]
        body, sig = unbase64(payload), unbase64(signature["sig"])
    except Refused as error:
        raise Refused("broken_chain", f"it is no record of this place: {error}", seq) from None
    time, leaf = seconds(value["time"]), sha256(b"\x00", data)
    return Data(seq=seq, prev=value["prev"], time=time, body=body, keyid=signature["keyid"], sig=sig, leaf=leaf)


def tree_root(hashes: list[str]) -> str:
    """The root of the RFC 6962 tree over these leaves."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256()
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01", bytes.fromhex(tree_root(hashes[:half])), bytes.fromhex(tree_root(hashes[half:])))


def parse_vkey(text: str) -> tuple[str, bytes, bytes]:
    """Origin, key id and raw key of a verifier key."""
    found = re.fullmatch(r"([^\s+\x00-\x1f]+-[0-9a-f]{8})\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)", text)
    origin, key_id, encoded = found.groups() if found else ("", "", "")
    data = unbase64(encoded)
    need("it is no verifier key of Ed25519", bad_format=len(data) == 33 and data[0] == 1)
    need(bad_key=may_be_enrolled(data[1:]))
    right = hashlib.sha256(origin.encode() + b"\n\x01" + data[1:]).digest()[:4]
    need("its id is not that of its key", bad_format=right.hex() == key_id)
    return origin, right, data[1:]


SIGNATURE = "\u2014 ([^\\s+\\x00-\\x1f]+) ([A-Za-z0-9+/=]+)\n"
NOTE = re.compile(rf"((.*)\n(0|[1-9][0-9]{{0,15}})\n([A-Za-z0-9+/]{{43}}=)\n)\n((?:{SIGNATURE}){{1,32}})")


def parse_checkpoint(note: bytes, origin: str, key_id: bytes, raw: bytes) -> tuple[int, str]:
    """Size and root that the log signed. Whatever is wrong with it is a `bad_checkpoint`."""
    try:
        said = NOTE.fullmatch(note.decode("utf-8")) if len(note) <= 262_144 else None
        if said is None or said[2] != origin:
            raise Refused("bad_checkpoint", "it is not origin, size, root and signatures")
        text, _, size, root, lines, *_ = said.groups()
        signatures = [(name, unbase64(data)) for name, data in re.findall(SIGNATURE, lines)]
        ours = [data[4:] for name, data in signatures if name == origin and data[:4] == key_id]
        need(bad_checkpoint=int(size) <= MAX_INT and ours and all(len(data) > 4 for _, data in signatures))
        for signature in ours:
            verify(raw, text.encode(), signature)
        return int(size), unbase64(root).hex()
    except (Refused, UnicodeDecodeError) as error:
        raise Refused("bad_checkpoint", str(error)) from None


# Section 3: who.


class Root:
    """A trust root. `keys`: by holder and key id, with whether the user must be verified. `held`: holders, raw keys."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body, self.thresholds, self.expires = body, body["thresholds"], seconds(body["expires"])
        self.people = {each["id"]: each for each in body["principals"]}
        every = [(each["id"], parse_key(entry["key"]), entry) for each in body["principals"] for entry in each["keys"]]
        self.keys = {(by, key.id): (key, entry["user_verification"]) for by, key, entry in every}
        self.held = [(by, key.raw) for by, key, _ in every]
        self.compromised = {parse_key(each["key"]).raw: each["position"] for each in body["compromised"]}

    def has(self, role: str, by: str, raw: bytes) -> bool:
        """Whether this principal holds this key and this role."""
        return (by, raw) in self.held and role in self.people[by]["roles"]

    def check(self, log_key: bytes) -> None:
        """What holds of every root."""
        people, raws = self.body["principals"], [raw for _, raw in self.held]
        need("an id stands twice", bad_trust_root=once(each["id"].lower() for each in people))
        for each in people:
            human, roles = each["kind"] == "human", set(each["roles"])
            need("only humans decide", bad_trust_root=human or not roles & {"governor", "operator", "approver"})
            need("only agents review", bad_trust_root=each["kind"] == "agent" or not roles & REVIEWERS)
            for key, asks in ((entry["key"], entry["user_verification"]) for entry in each["keys"]):
                need("a token's key is a human's", bad_trust_root=human if key.startswith("sk-") else not asks)
        need("a key stands twice, or is the log's", bad_trust_root=once([*raws, log_key]))
        need("a compromise stands twice", bad_trust_root=len(self.compromised) == len(self.body["compromised"]))
        need("a compromised key is held", bad_trust_root=self.compromised.keys().isdisjoint(raws))
        for role in ("governor", "operator"):
            custodians = {each["custodian"] for each in people if role in each["roles"]}
            need("a threshold is out of reach", bad_trust_root=len(custodians) >= self.thresholds[role + "s"])


# Sections 5 to 8: the law. An entry `e` while it is judged: what (its kind), says (its predicate), by, seq, now (its
# time), made, leaf, digest; name and about (of its subject); seen (the size of its head); root, person, key, asked (of
# its signer). A vote `v` is one that is a cosignature, a review, or a lease with its proposer's part in it.

PROPOSERS = {"trust": "governor", "policy": "governor", "fleet": "operator"}
REVIEWERS = {"sentinel", "validator"}
COSIGNERS = {"lease": {"approver", *REVIEWERS}} | {kind: {role} for kind, role in PROPOSERS.items()}
FORWARD = {"STARTED", "TIER_INTENT", "BAKE_STARTED", "CANARY_PROMOTED", "RESUMED", "COMPLETED"}
ENDED = {"COMPLETED", "ROLLED_BACK", "ROLLBACK_FAILED", "ABORTED"}
MONITORED = {"BASELINE", "SAMPLE", "VERDICT"}
ORDERED = {"PAUSED": "pause", "RESUMED": "resume", "ROLLBACK_STARTED": "rollback"}


def need_role(e: Data, *roles: str) -> None:
    """The signer holds one of these roles: in the root that has the key, or in the one that its subject proposes."""
    roots = [root for root in (e.root, e.proposed) if root]
    need(role_missing=any(root.has(role, e.by, e.raw) for root, role in product(roots, roles)))


def standing(subject: Data) -> list[Data]:
    """Section 6, withdrawal: cosignatures that their signers did not withdraw."""
    return [v for v in subject.votes if v.seen > subject.withdrawn.get(v.by.lower(), -1)]


def as_object(names: Any) -> dict[str, Any]:
    """What a list is called that is kept as an object."""
    data = canonical(names)
    return names if isinstance(names, dict) else {"sha256": sha256(data), "size": len(data)}


class Law:
    """Judges one entry after another. What is refused leaves it unusable. `leaves`: of the entries, this one's too."""

    def __init__(self, objects: Objects, leaves: list[str]) -> None:
        self.objects, self.leaves, self.times, self.digests = objects, leaves, list[int](), set[str]()
        self.root: Any = None  # the trust root in force
        self.log_key, self.term = ("", b"", b""), (0, "")
        self.base = {"trust": ZERO, "policy": ZERO, "fleet": ZERO}  # the statement that brought each into force
        self.policies, self.targets = dict[str, Any](), dict[str, Any]()  # by their statement; of the fleet in force
        self.owner_of, self.kind_of = dict[bytes, str](), dict[str, str]()  # of every root: raw key, id in lower case
        self.intents, self.lease_ids = (
            dict[str, str](),
            set[str](),
        )  # in capitals, as these ids are; the target of an intent
        self.subjects, self.messages = dict[str, Data](), dict[str, int]()  # by digest: leases and proposals; seqs
        self.deployments, self.live = dict[str, Data](), dict[str, Data]()  # by the lease's digest; those that go on
        self.last_claim, self.owed = dict[str, int](), dict[str, int]()  # seq by target; until when a lease owes review

    def judge(self, record: Data) -> dict[str, Any]:
        """Section 5: every entry. Judge the next one, and let it have its effect; its predicate."""
        statement = parse(record.body)
        need("it is no statement", bad_format=fits("Statement", statement))
        says, (subject,), named = statement["predicate"], statement["subject"], statement["predicateType"]
        what = named.removeprefix("https://station.calyx/").removesuffix("/v1")
        need(unknown_kind=what in KINDS and named == f"https://station.calyx/{what}/v1")
        common = {name: says.get(name) for name in FIELDS["Common"]}
        need("its common fields", bad_format=fits("Common", common))
        e = Data(what=what, says=says, by=says["by"], role=says.get("role"), seq=record.seq, now=record.time)
        e.name, e.about = subject["name"], subject["digest"]["sha256"]
        e.leaf, e.digest = record.leaf, sha256(record.body)
        e.votes, e.reviews, e.withdrawn, e.denied, e.done = [], [], {}, False, False  # of a lease or proposal
        e.made, e.seen, head, first = seconds(says["made_at"]), says["head"]["size"], says["head"]["hash"], not e.seq
        nothing = (says["ledger"], e.seen, head) == (ZERO, 0, ZERO)
        need("genesis alone has nothing before it", bad_format=nothing if what == "genesis" else e.seen)
        itself = (e.name, e.about) == (what, sha256(canonical(says)))
        need("it has another subject", bad_format=what in ON_ANOTHER or itself)
        need(misplaced_genesis=(what == "genesis") == first, repeated=e.digest not in self.digests)
        need(wrong_ledger=first or says["ledger"] == self.leaves[0])
        need(head_contradicted=first or (e.seen <= e.seq and head == self.leaves[e.seen - 1]))
        need(f"it is no {what}", bad_format=fits(what, says))
        self.root = Root(says["trust"]) if first else self.root
        e.proposed = getattr(self.subjects.get(e.about), "offers", None)  # the trust root that it is about
        key, votes = (e.by, record.keyid), what == "cosignature" or says.get("verb") == "withdraw"
        e.root = e.proposed if e.proposed and votes and key not in self.root.keys else self.root
        need(unknown_key=key in e.root.keys)
        (e.key, asked), person = e.root.keys[key], e.root.people[e.by]
        e.raw, e.asked, e.custodian, e.kind = e.key.raw, asked, person["custodian"], person["kind"]
        message = f"DSSEv1 28 application/vnd.in-toto+json {len(record.body)} ".encode() + record.body
        if e.kind == "human":
            namespace = b"approval-v1@station.calyx" if what == "cosignature" else b"statement-v1@station.calyx"
            check_sshsig(e.key, asked, namespace, message, record.sig)
        else:
            verify(e.raw, message, record.sig)
        need("made after it was recorded", clock_suspect=e.made <= e.now + 120)
        if e.kind != "human":
            need(stale_statement=e.now <= e.made + 120, head_too_old=e.seq - e.seen <= 1024)
            need("made before its head", clock_suspect=first or e.made >= self.times[e.seen - 1])
        getattr(self, "take_" + ("proposal" if what in PROPOSERS else what))(e)
        self.times.append(e.now)
        self.digests.add(e.digest)
        return dict(says)

    def subject(self, e: Data, kinds: Iterable[str] = ("lease",)) -> Data:
        """Section 5: the lease or proposal that an entry is about."""
        found = self.subjects.get(e.about, Data(id=None, seq=0))
        need(unknown_subject=found.id == e.name and found.what in kinds, head_too_old=found.seq < e.seen)
        return found

    def read(self, value: Any, shape: str = "[id]", limit: int = MAX_LIST) -> Any:
        """A list that stands there, or what is kept as an object."""
        if not isinstance(value, dict):
            return value
        found = self.objects.read(value["sha256"], value["size"], limit)
        need(f"the object is no {shape}", bad_format=fits(shape, found))
        return found

    def compromised(self, v: Data) -> bool:
        """Whether the key of who said this was compromised from there or before."""
        return bool(self.root.compromised.get(v.raw, MAX_INT) <= v.seq)

    def holds(self, v: Data) -> bool:
        """Whether who said this still holds key and role."""
        return bool(self.root.has(v.role, v.by, v.raw))

    # Section 6: each kind.

    def take_genesis(self, e: Data) -> None:
        need_role(e, "governor")
        self.log_key, continues = parse_vkey(e.says["log_key"]), e.says["continues"]
        need("the log's key is of another name", bad_genesis=self.log_key[0] == e.says["origin"])
        if continues is not None:
            size, last, ledger = continues["head"]["size"], continues["head"]["hash"], continues["ledger"]
            need(bad_genesis=size > 0 and ZERO not in (last, ledger) and (size == 1) == (last == ledger))
        self.root.check(self.log_key[2])
        self.enact("trust", self.root, e.digest)
        self.enact("policy", e.says["policy"], e.digest)

    def enact(self, kind: str, value: Any, digest: str) -> None:
        self.base[kind] = digest
        if kind == "trust":
            self.root = value
            self.owner_of |= {raw: by for by, raw in value.held}
            self.kind_of |= {by.lower(): who["kind"] for by, who in value.people.items()}
        elif kind == "policy":
            self.policies[digest] = value
        else:
            self.targets = self.read(value, "Fleet", MAX_MANIFEST)["targets"]

    def take_proposal(self, e: Data) -> None:
        need_role(e, PROPOSERS[e.what])
        need(stale_base=e.says["base"] == self.base[e.what], approval_expired=e.now <= seconds(e.says["approve_by"]))
        root = Root(e.says["trust"]) if e.what == "trust" else None
        if root:
            self.check_follows(e, root)
        self.read(e.says.get("fleet"), "Fleet", MAX_MANIFEST)
        e.id, e.offers, self.subjects[e.digest] = e.what, root, e

    def check_follows(self, e: Data, root: Root) -> None:
        """Section 3: this trust root may follow the one in force."""
        root.check(self.log_key[2])
        owners = all(self.owner_of.get(raw, by).lower() == by.lower() for by, raw in root.held)
        need("a key goes to another principal", bad_trust_root=owners)
        kinds = all(self.kind_of.get(by.lower(), who["kind"]) == who["kind"] for by, who in root.people.items())
        need("a kind changes", bad_trust_root=kinds)
        kept = all(root.compromised.get(raw, MAX_INT) <= was for raw, was in self.root.compromised.items())
        need("a compromise is dropped, or moved back", bad_trust_root=kept)
        need("a compromise is to come", bad_trust_root=max(root.compromised.values(), default=0) <= e.seq)

    def take_intent(self, e: Data) -> None:
        need_role(e, "proposer")
        need(bad_id=re.fullmatch(r"INT-[0-9]{8}-[0-9]{3,6}(-[0-9]{1,6})?", e.says["id"]))
        need(id_taken=e.says["id"] not in self.intents)
        self.intents[e.says["id"]] = e.says["target"]

    def take_lease(self, e: Data) -> None:
        says, id_, target, intent = e.says, e.says["id"], e.says["target"], e.says["intent"].upper()
        need_role(e, "proposer")
        need(bad_id=re.fullmatch(r"LEASE-[0-9]{8}-[0-9]{6}(-[0-9]{1,6})?", id_))
        need(id_taken=id_ not in self.lease_ids, unknown_intent=intent in self.intents)
        need(wrong_target=self.intents[intent] == target, unknown_capability=says["capability"] == "deploy_production")
        self.check_bases(says)
        begin, approve = seconds(says["not_before"]), seconds(says["approve_by"])
        execute, complete = seconds(says["execute_by"]), seconds(says["complete_by"])
        need(bad_windows=max(begin, approve) <= execute <= complete, lease_expired=e.now <= execute)
        need(bad_tiers=says["tiers"] == sorted({*says["tiers"], 100}))
        need(reason_missing=says["rule"] == "two_key" or says["reason"], unknown_target=target in self.targets)
        known = {instance["name"] for instance in self.targets[target]["instances"]}
        sides, artifact = list[tuple[str, str, str]](), says["artifact"]  # instance, before, after
        trees = [(change["before"], change["after"]) for change in says["changes"]]
        for change in says["changes"]:
            names = self.read(change["instances"])
            need(unknown_instance=known.issuperset(names))
            sides += [(name, change["before"], change["after"]) for name in names]
        need(bad_changes=sides and once(name for name, _, _ in sides))
        need(bad_changes=once(trees) and all(before != after for before, after in trees))
        need(bad_changes=artifact["type"] == "patch" or all(after == artifact["sha256"] for _, after in trees))
        e.before, e.after = {name: was for name, was, _ in sides}, {name: then for name, _, then in sides}
        e.target, e.paths, e.glass = target, self.read(says["paths"], "path list"), says["rule"] == "break_glass"
        e.terms = self.policies[says["policy"]]["deploy_production"]
        e.id, e.offers, self.subjects[e.digest] = id_, None, e
        self.lease_ids.add(id_)

    def check_bases(self, says: dict[str, Any]) -> None:
        need(stale_policy=says["policy"] == self.base["policy"], stale_fleet=says["fleet"] == self.base["fleet"])

    def take_review(self, e: Data) -> None:
        need_role(e, e.role)
        lease = self.subject(e)
        owed, again = lease.digest in self.owed, any(v.by.lower() == e.by.lower() for v in lease.reviews)
        need(already_reviewed=owed or not again, lease_consumed=owed or not lease.done)
        lease.reviews.append(e)
        self.owed.pop(lease.digest, None)

    def take_cosignature(self, e: Data) -> None:
        subject, role, review = self.subject(e, COSIGNERS), e.role, e.says["review"]
        lease = subject.what == "lease"
        need(wrong_role=role in COSIGNERS[subject.what] and (lease or review is None))
        need_role(e, role)
        need(lease_consumed=not (lease and subject.done), lease_denied=not subject.denied)
        need(already_in_force=not subject.done, stale_base=lease or subject.says["base"] == self.base[subject.what])
        need(approval_expired=max(e.now, e.made) <= seconds(subject.says["approve_by"]))
        mine = [v for v in subject.reviews if (v.by.lower(), v.role, v.digest) == (e.by.lower(), role, review)]
        need(wrong_review=mine if role in REVIEWERS else review is None)
        passed = all(v.says["verdict"] == "pass" for v in mine)
        need(review_failed=passed, head_too_old=all(v.seq < e.seen for v in mine))
        need(already_cosigned=(e.raw, role) not in [(v.raw, v.role) for v in standing(subject)])
        subject.votes.append(e)
        if not lease and e in standing(subject) and self.has_quorum(subject, role):
            # That a root may follow needs no second look: since it was proposed, none came into force but its base.
            self.enact(subject.what, subject.offers or subject.says[subject.what], subject.digest)
            subject.done = True

    def has_quorum(self, proposal: Data, role: str) -> bool:
        """Whether those who stand reach the thresholds of the root in force, and of a proposed one."""
        # Neither holds a key that is compromised.
        roots, good = [root for root in (self.root, proposal.offers) if root], standing(proposal)
        held = [{root.people[v.by]["custodian"] for v in good if root.has(role, v.by, v.raw)} for root in roots]
        return all(len(each) >= root.thresholds[role + "s"] for each, root in zip(held, roots, strict=True))

    def take_objection(self, e: Data) -> None:
        subject, deny = self.subject(e, COSIGNERS), e.says["verb"] == "deny"
        lease = subject.what == "lease"
        need(wrong_subject=lease or not deny)
        need_role(e, *({"approver", "proposer"} if deny else COSIGNERS[subject.what]))
        need(lease_consumed=not (lease and subject.done), already_in_force=not subject.done)
        subject.denied = subject.denied or deny
        if not deny:
            subject.withdrawn[e.by.lower()] = e.seq

    def take_term(self, e: Data) -> None:
        need(wrong_kind=e.kind == "executor", head_moved=e.seen == e.seq)
        need(wrong_epoch=e.says["epoch"] == self.term[0] + 1)
        self.term = (e.says["epoch"], e.by)

    def take_message(self, e: Data) -> None:
        to, reply_to = e.says["to"], e.says["reply_to"]
        need(unknown_subject=reply_to is None or self.messages.get(reply_to, e.seq) < e.seen)
        need(unknown_principal=to is None or to in self.root.people)
        self.messages[e.digest] = e.seq

    # Section 7: the two-key rule.

    def take_claim(self, e: Data) -> None:
        need(wrong_kind=e.kind == "executor")
        lease = self.subject(e)
        need(head_moved=e.seen == e.seq, fenced=self.term == (e.says["epoch"], e.by))
        counted = self.two_keys(e, lease)
        need(wrong_count=e.says["counted"] == [vote.seq for vote in counted])
        fleet = {each["name"]: each for each in self.targets[lease.target]["instances"]}
        cohorts = self.cohorts(lease, counted, fleet)
        stated = [(each["tier"], as_object(each["instances"])) for each in e.says["cohorts"]]
        need(wrong_cohorts=stated == [(tier, as_object(names)) for tier, names in cohorts.items()])
        seen = [(name, each["tree"]) for each in e.says["seen"] for name in self.read(each["instances"])]
        need(bad_claim=once(name for name, _ in seen), base_moved=dict(seen) == lease.before)
        lease.done, self.last_claim[lease.target] = True, e.seq
        if lease.glass and not any(map(self.holds, lease.reviews)):
            self.owed[lease.digest] = e.now + lease.terms["break_glass"]["review_within_s"]
        self.deployments[lease.digest] = self.live[lease.digest] = Data(
            lease=lease, seq=e.seq, counted=counted, cohorts=cohorts, leaf=e.leaf, phase="CLAIMED",
            working="CLAIMED",  # the phase, and under a pause the one before it
            places={name: (fleet[name]["address"], fleet[name]["root"]) for name in lease.before},
            halted="", completed=0, tier=0, tier_applied=False, intended=set(), applied=set(),
            restored=set(), baseline=False, bake=0, watched=0, samples={},  # of a bake: n -> whether no value is null
            verdict=(0, "", 0, None), breach=None,  # tier, verdict, n, digest of the newest; digest of a breach
            orders={}, waiting={}, promoted={},  # digest -> verb; verb -> seq of the order; tier -> skip_bake
        )  # fmt: skip

    def two_keys(self, e: Data, lease: Data) -> list[Data]:
        """The two cosignatures that count. Step 1 was judged at the lease's entry."""
        says, terms = lease.says, lease.terms
        self.check_terms(says, terms, lease)
        need(too_early=e.now >= seconds(says["not_before"]))  # step 3
        need(lease_expired=e.now <= seconds(says["execute_by"]), trust_expired=e.now <= self.root.expires)
        faults = [self.fault_of(v, lease) for v in lease.votes]
        if faults and all(faults):  # step 4
            raise Refused(faults[0], "no cosignature is good")
        good = [v for v in lease.votes if not self.fault_of(v, lease)]
        people = [v for v in good if v.role == "approver"]
        others = people if lease.glass else [v for v in good if v.role != "approver"]
        pairs = [(a, b) for a, b in product(people, others) if self.are_apart(a, b, lease)]
        if lease.glass and terms["break_glass"]["user_verification"]:
            asked = {(by, key.raw) for (by, _), (key, asked) in self.root.keys.items() if asked}
            pairs = [pair for pair in pairs if any(v.asked and (v.by, v.raw) in asked for v in pair)]
        need(quorum_unmet=pairs, lease_denied=not lease.denied, lease_consumed=not lease.done)  # steps 5 and 6, 7, 8
        self.check_free(lease)
        need(review_overdue=lease.glass or all(until >= e.now for until in self.owed.values()))
        for role in [] if lease.glass else terms["reviews"]:  # step 9
            mine = [v for v in lease.reviews if v.role == role]
            # One that failed stands while its key has the role, however the id is spelled.
            failed = any(v.says["verdict"] == "fail" and self.root.has(role, self.owner_of[v.raw], v.raw) for v in mine)
            need(review_failed=not failed, review_missing=any(map(self.holds, mine)))
        ordered = (sorted(pair, key=lambda v: v.seq) for pair in pairs)
        return min(ordered, key=lambda pair: (pair[1].seq, pair[0].seq))

    def check_terms(self, says: dict[str, Any], terms: Any, lease: Data) -> None:
        """Step 2: policy and fleet are those in force, and allow what the lease asks for."""
        self.check_bases(says)
        need(capability_disabled=self.enables(says["policy"]), target_not_allowed=lease.target in terms["targets"])
        rules = terms["targets"][lease.target]["paths"]
        prefixes = tuple(rule for rule in rules if rule[-1] == "/")
        need(path_not_allowed=all(path in rules or path.startswith(prefixes) for path in lease.paths))
        need(gates_differ=says["gates"] == terms["gates"], tiers_missing=set(terms["tiers"]) <= set(says["tiers"]))
        bake, interval = says["bake_s"] >= terms["bake_s"], says["interval_s"] <= terms["interval_s"]
        need(bake_too_short=bake, interval_too_long=interval, start_differs=terms["start"] in {"auto", says["start"]})
        need(promotion_differs=terms["promotion"] in {"auto", says["promotion"]})
        there = self.targets[lease.target]["instances"]
        used = {hook for each in (says, *there) for hook in each["hooks"].values()}
        used |= {each["probe"]["hook"] for each in there if each["probe"]}
        need(hook_not_allowed=used - {None} <= terms["hooks"].keys())
        glass, valid = terms["break_glass"], seconds(says["execute_by"]) - lease.now
        if lease.glass:
            need(break_glass_disabled=glass["enabled"], break_glass_too_long=valid <= glass["max_validity_s"])

    def enables(self, policy: str) -> bool:
        phase, terms = self.policies[policy]["phases"]["3"], self.policies[policy]["deploy_production"]
        listed = phase["status"] == "implemented" and "deploy_production" in phase["capabilities"]
        return bool(listed and terms["enabled"])

    def fault_of(self, v: Data, lease: Data) -> str:
        """Step 4: why a cosignature is not good, empty when it is."""
        if v not in standing(lease):
            return "withdrawn"
        return "key_compromised" if self.compromised(v) else "" if self.holds(v) else "role_missing"

    def are_apart(self, *votes: Data) -> bool:
        """Step 6: two votes and the proposer differ in principal, raw key, and custodian, then and now."""
        now = {by.lower(): who["custodian"] for by, who in self.root.people.items()}
        all_four = [(v.by.lower(), v.raw, v.custodian, now.get(v.by.lower(), v.custodian)) for v in votes]
        return all(map(once, zip(*all_four, strict=True)))

    def check_free(self, lease: Data) -> None:
        """Step 8: nothing else is live on the target, or at an address and root of the lease's instances."""
        mine, fleet = self.deployments.get(lease.digest), self.targets.get(lease.target, {"instances": []})["instances"]
        places = {(each["address"], each["root"]) for each in fleet if each["name"] in lease.before}
        places = set(mine.places.values()) if mine else places
        # Its own deployment is not live: it was not claimed yet, or it ended.
        need(target_busy=all(other.lease.target != lease.target for other in self.live.values()))
        need(target_busy=all(places.isdisjoint(other.places.values()) for other in self.live.values()))

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
        lease, says, verb, tier = self.subject(e), e.says, e.says["verb"], e.says["tier"]
        need(command_expired=max(e.now, e.made) <= seconds(says["expires_at"]), not_claimed=lease.done)
        d, bound, promotes = self.deployments[lease.digest], verb in {"start", "resume", "promote"}, verb == "promote"
        need(bad_command=bound == (says["state"] is not None))
        need(stale_command=not bound or says["state"] == d.leaf)
        need(bad_command=promotes == (tier is not None) and (promotes or not says["skip_bake"]))
        need(deployment_ended=d.phase not in ENDED or verb == "rollback")
        need(bad_command=verb != "start" or (lease.says["start"] == "command" and d.working == "CLAIMED"))
        need(bad_command=verb != "resume" or d.phase == "PAUSED" or "pause" in d.waiting)
        need(bad_command=not promotes or (d.working == "BAKING" and d.tier == tier))
        if verb in {"resume", "promote"}:
            need(health_refused=not d.breach and d.verdict[:2] != (d.watched, "missing"))
            need(skip_not_allowed=lease.terms["skip_bake"] or not says["skip_bake"])
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
        need(nothing_to_roll_back=d.phase in {"COMPLETED", "ROLLBACK_FAILED"})
        need(retention_over=d.phase != "COMPLETED" or e.now <= d.completed + d.lease.terms["retention_s"])
        self.check_free(d.lease)
        mine = {d.places[name] for name in d.intended}
        later = [each for each in self.deployments.values() if each.seq > d.seq]
        need(superseded=mine.isdisjoint(each.places[name] for each in later for name in each.intended))

    def take_event(self, e: Data) -> None:
        told, type_ = e.says["detail"], e.says["detail"]["type"]
        preflight, observed = type_ == "PREFLIGHT_FAILED", type_ in {*MONITORED, "SANITY"}
        if type_ == "SANITY":
            need_role(e, "validator")
        else:
            need(wrong_kind=e.kind == ("monitor" if observed else "executor"))
        lease = self.subject(e)
        if observed:
            need(bad_event=e.says["epoch"] is None)
        else:
            need(fenced=self.term == (e.says["epoch"], e.by))
        need(not_claimed=lease.done or preflight, lease_consumed=not (lease.done and preflight))
        if preflight:
            return
        d = self.deployments[lease.digest]
        need(illegal_transition=type_ in MOVES[d.phase])
        if type_ in FORWARD:
            self.check_forward(e, d)
        self.step(e, d, told, d.lease.says)
        d.phase = MOVES[d.phase][type_] or (d.working if type_ == "RESUMED" else d.phase)
        d.working = d.working if d.phase == "PAUSED" else d.phase
        d.leaf = d.leaf if e.says["epoch"] is None else e.leaf
        self.live[lease.digest] = d
        if d.phase in ENDED:
            del self.live[lease.digest]

    def check_forward(self, e: Data, d: Data) -> None:
        policy, target = self.base["policy"], d.lease.target
        need(complete_by_passed=e.now <= seconds(d.lease.says["complete_by"]))
        allowed = target in self.policies[policy]["deploy_production"]["targets"]
        need(capability_disabled=self.enables(policy) and allowed)
        need(tainted=not any(map(self.compromised, d.counted)), stopped=not {"abort", "rollback"} & d.waiting.keys())
        need(health_refused=d.breach is None, paused="pause" not in d.waiting)

    def step(self, e: Data, d: Data, told: Any, says: dict[str, Any]) -> None:
        """What an event needs besides, and does. `says`: the lease."""
        type_, name, tier, newest = told["type"], told.get("instance"), told.get("tier"), max(d.samples, default=0)
        following = next((each for each in d.cohorts if each > d.tier), None)
        need(unknown_command=told.get("command") is None or d.orders.get(told["command"]) == ORDERED[type_])
        match type_:
            case "STARTED":
                need(lease_expired=e.now <= seconds(says["execute_by"]))
                need(start_not_ordered=says["start"] == "auto" or "start" in d.waiting)
            case "TIER_INTENT":
                need("the tier before was not promoted", illegal_transition=d.phase == "PROMOTED" or d.tier == 0)
                need(wrong_tier=tier == following, no_baseline=d.baseline)
                d.tier, d.tier_applied = tier, False
                d.intended |= set(d.cohorts[tier])
            case "INSTANCE_APPLIED":
                need(not_intended=name in d.cohorts.get(tier, []) and name in d.intended)
                need(repeated=name not in d.applied | d.restored, wrong_tree=told["tree"] == d.lease.after[name])
                d.applied.add(name)
            case "TIER_APPLIED":
                need(wrong_tier=tier == d.tier and not d.tier_applied, not_applied=d.intended <= d.applied)
                d.tier_applied = True
            case "BAKE_STARTED":
                need(wrong_tier=tier == d.tier and d.tier_applied)
                d.bake, d.watched, d.samples = e.now, tier, {}
            case "CANARY_PROMOTED":
                need(wrong_tier=(tier, told["to"]) == (d.tier, following))
                need(promotion_not_ordered=says["promotion"] == "auto" or d.tier in d.promoted)
            case "COMPLETED":
                need(wrong_tier=following is None)
                d.completed = e.now
            case "ABORTED":
                need("it has started", illegal_transition=d.working == "CLAIMED")
            case "HALTED":
                need("it has not started", illegal_transition=d.working != "CLAIMED")
                need(unknown_evidence=told["evidence"] in {None, d.verdict[3], d.breach, *d.orders})
                d.halted = told["cause"]
            case "ROLLBACK_STARTED":
                # A later claim on the target ends an order that was not taken up.
                ordered = d.waiting.get("rollback", -1) > self.last_claim[d.lease.target]
                need(rollback_not_ordered=ordered or (d.phase not in ENDED and d.halted != "tainted"))
                if d.phase in ENDED:
                    self.check_rollback(e, d)
                d.restored = set()
            case "INSTANCE_RESTORED":
                need(not_intended=name in d.intended, repeated=name not in d.restored)
                need(wrong_tree=told["tree"] == d.lease.before[name])
                d.restored.add(name)
            case "ROLLED_BACK":
                need(not_restored=d.intended <= d.restored)
            case "ROLLBACK_FAILED":
                need(wrong_instances=sorted(self.read(told["instances"])) == sorted(d.intended - d.restored))
                d.waiting.pop("rollback", None)
            case "BASELINE":
                need(late_baseline=not d.baseline)  # no tier begins without one
                need(bad_baseline=(set(d.lease.before.values()) == {"absent"}) == (told["values"] is None))
                d.baseline = True
            case "SAMPLE":
                need(not_baking=d.watched, wrong_tier=tier == d.watched, repeated=told["n"] > newest)
                need(early_sample=min(e.made, e.now) >= d.bake + told["n"] * says["interval_s"] - 1)
                d.samples[told["n"]] = all(each["value"] is not None for each in told["values"])
            case "VERDICT":
                need(wrong_sample=(tier, told["n"]) == (d.watched, newest))
                need(not_healthy=newest or told["verdict"] != "pass")
                d.verdict = (tier, told["verdict"], newest, e.digest)
                d.breach = d.breach or (e.digest if told["verdict"] in {"breach", "abort"} else None)
            case _:  # PAUSED, RESUMED, SANITY
                pass
        if type_ in {"CANARY_PROMOTED", "COMPLETED"}:
            wanted = -(-says["bake_s"] // says["interval_s"])
            need(not_baked=sum(d.samples.values()) >= wanted or d.promoted.get(d.tier))
            need(not_healthy=d.verdict[:3] == (d.tier, "pass", newest))
        if told.get("values") is not None:
            valued = sorted(each["gate"] for each in told["values"])
            need(bad_values=valued == sorted(each["name"] for each in says["gates"]))


# Sections 2 and 9: objects.


def plain_text(text: str) -> bool:
    """Whether it is short enough for a file system, and no control character is in it."""
    return len(text.encode()) <= 4095 and not re.search(r"[\x00-\x1f\x7f-\x9f]", text)


class Objects:
    """What entries name by hash and size. `find` opens an object by the hex of its digest, or gives None."""

    def __init__(self, find: Callable[[str], io.BufferedIOBase | None]) -> None:
        self.find, self.whole = find, set[tuple[str, int]]()

    def open(self, digest: str) -> Any:
        file = self.find(digest)
        need(digest, object_missing=file)
        return file

    def check(self, digest: str, size: int) -> None:
        """The object is there and whole."""
        if (digest, size) not in self.whole:
            with self.open(digest) as file:
                found = (hashlib.file_digest(file, "sha256").hexdigest(), file.seek(0, 2))
            need(digest, object_mismatch=found == (digest, size))
            self.whole.add((digest, size))

    def read(self, digest: str, size: int, limit: int) -> Any:
        """What the object says, which is canonical JSON."""
        need(digest, too_large=size <= limit)
        with self.open(digest) as file:
            data = file.read(limit + 1)
        need(digest, object_mismatch=(sha256(data), len(data)) == (digest, size))
        return parse(data)

    def check_tree(self, digest: str) -> None:
        """The manifest of a tree is one, and its files are there; or it is kept nowhere."""
        file = self.find(digest)
        if file is None:
            return
        with file:
            data = file.read(MAX_MANIFEST + 1)
        need(digest, too_large=len(data) <= MAX_MANIFEST, object_mismatch=sha256(data) == digest)
        manifest = parse(data)
        need("it is no manifest", bad_format=isinstance(manifest, list) and manifest[:1] == ["calyx-tree-v1"])
        files, last, directories = [], b"", {""}
        for row in manifest[1:]:
            match row:
                case [str(path), "file" | "exec", of, size] if fits("hash", of) and fits("count", size):
                    files.append((of, size))
                case [str(path), "link", str(target)]:
                    need("of a link", bad_path=target and target[0] != "/" and plain_text(target))
                case [str(path), "dir"]:
                    directories.add(path)
                case _:
                    raise Refused("bad_format", "a row of a tree is no file, link or directory")
            parts = path.split("/")
            short = len(parts) <= 64 and all(len(part.encode()) <= 255 for part in parts)
            need(f"{path!r:.80}", bad_path=short and plain_text(path) and tidy(path))
            need(f"{path!r:.80}", bad_tree=path.encode() > last and path.rpartition("/")[0] in directories)
            last = path.encode()
        for of, size in files:
            self.check(of, size)

    def check_named(self, value: Any) -> None:
        """Everything that a value names with hash and size."""
        if isinstance(value, dict) and fits("hash", value.get("sha256")) and fits("count", value.get("size")):
            self.check(value["sha256"], value["size"])
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            self.check_named(each)

    def check_all(self, says: dict[str, Any]) -> None:
        """What an entry names is there (section 9); a tree that it names by the digest alone may be kept nowhere."""
        self.check_named(says)
        for change in says.get("changes", []):
            self.check_tree(change["before"])
            self.check_tree(change["after"])


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
    """Each record, once what follows it confirms it and its leaf is among the leaves.

    Of two neighbours that contradict each other one was changed; where it is the second, the first is given, too.
    """
    last, end, rest = None, None, iter(records)
    try:
        for seq, data in enumerate(rest):
            end = open_checkpoint(data, note) if seq == 0 else end
            if end is not None and seq >= end[0]:
                need("another one was signed", max(seq - 1, 0), broken_chain=signs(end, leaves, last))
                raise Refused("broken_chain", "the checkpoint does not cover it", seq)
            record = parse_record(data, seq)
            if record.prev != (last.leaf if last else ZERO):
                changed = seq - (last is not None and confirms(record, next(rest, None), leaves, last, end))
                raise Refused("broken_chain", "it was changed", changed)
            if last:
                need("its time is before that of the entry before", seq, broken_chain=record.time >= last.time)
                leaves.append(last.leaf)
                yield last
            last = record
        if last is None:
            raise Refused("no_genesis", "there is no entry")
        size = last.seq + 1
        need("the checkpoint covers it, and it is not there", size, broken_chain=end is None or size == end[0])
    except Refused as error:
        if last and error.entry == last.seq + 1:
            yield last
        raise
    need("another one was signed", last.seq, broken_chain=end is None or signs(end, leaves, last))
    leaves.append(last.leaf)
    yield last


def signs(end: tuple[int, str], leaves: list[str], last: Data | None) -> bool:
    """Whether the checkpoint is of the entries that have these leaves, and the last one."""
    return tree_root([*leaves, last.leaf] if last else leaves) == end[1]


def confirms(record: Data, following: bytes | None, leaves: list[str], last: Data, end: tuple[int, str] | None) -> bool:
    """Whether what follows a record names its leaf, so that the record before it is the one that was changed."""
    if end is not None and end[0] == record.seq + 1:
        return end[1] in [tree_root([*leaves, before, record.leaf]) for before in (last.leaf, record.prev)]
    if following is None:
        return False
    try:
        value = parse(following)
        return fits("Record", value) and bool(parse_record(following, value["seq"]).prev == record.leaf)
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
                wrong = Refused(error.code, error.words, record.seq)
    except Refused as error:
        return wrong or error
    return wrong


def read_database(path: Path) -> tuple[Iterator[bytes], bytes]:
    """The records, and the newest checkpoint, of a ledger's file, as of one moment."""
    # SQLite would wait for ever at a pipe, and read for ever from a view that never ends.
    for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        if each.exists() and not each.is_file():
            raise OSError(f"{each.name} is not a regular file")
    # SQLite reads a log by an index beside it. Where it may make none, nobody appends, and an empty log needs none.
    log, index = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    sealed = not os.access(path.parent, os.W_OK) and not index.exists()
    if sealed and log.exists() and log.stat().st_size:
        raise OSError(f"its log cannot be read where nothing may be written: copy {path.name} and {log.name} elsewhere")
    address = f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if sealed else ''}"
    connection = sqlite3.connect(address, uri=True, isolation_level=None)
    connection.execute("BEGIN")
    tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('record', 'tip')"
    if connection.execute(tables).fetchone() != (2,):
        raise sqlite3.DatabaseError("record and tip are not the tables of a ledger")
    tip = connection.execute("SELECT CAST(checkpoint AS BLOB) FROM tip").fetchone() or (b"",)
    rows = connection.execute("SELECT seq, data FROM record ORDER BY seq")
    return (data if place == seq else b"" for seq, (place, data) in enumerate(rows)), tip[0] or b""


# Section 11: exports.

RECORD_BEGINS = b'{"envelope":{"payload":"'
MAX_BUNDLE = 256 * 65_537


def read_whole(path: Path, limit: int) -> bytes | None:
    """A file's content; nothing when it is a link, no file, or longer; None when it is not there."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size > limit:
        return b"" if path.is_symlink() or path.exists() else None
    return path.read_bytes()


def read_tile(root: Path, kind: str, index: int, count: int) -> dict[int, bytes | None]:
    """The file of a tile by its width, 256 where the full one stands for it, and then narrower ones that lie beside."""
    digits = str(index).zfill(-(-len(str(index)) // 3) * 3)
    full = root / "tile" / kind / re.sub(r"(\d{3})(?=\d)", r"x\1/", digits)
    partial = {each.name: each for each in full.with_name(full.name + ".p").glob("*")}
    newest = {count: partial[str(count)]} if count < 256 and str(count) in partial else {256: full}
    files = newest | {width: partial[str(width)] for width in range(1, min(count, 256)) if str(width) in partial}
    return {width: read_whole(path, MAX_BUNDLE) for width, path in files.items()}


def read_bundles(root: Path, size: int, odd: list[Refused]) -> Iterator[bytes]:
    """The records of an export. `odd`: gets what older files say that the newest do not."""
    for start in range(0, size, 256):
        count = min(256, size - start)
        (width, found), *older = read_tile(root, "entries", start // 256, count).items()
        data, cuts = found or b"", [0]  # cuts: where each record ends; it stands behind its length
        for _ in range(width):
            cuts.append(cuts[-1] + 2 + int.from_bytes(data[cuts[-1] : cuts[-1] + 2], "big"))
        whole = cuts[-1] == len(data)
        for narrow, old in older:
            if old != data[: cuts[narrow]]:
                other = [at for at in range(narrow) if (old or b"")[: cuts[at + 1]] != data[: cuts[at + 1]]]
                number = start + [*other, narrow - 1][0]
                odd.append(Refused("tile_mismatch", "an older bundle holds another entry", number))
        for number in range(count):
            at, end = cuts[number : number + 2]
            # Where lengths do not lead to the end, the first one that leads to no record is the wrong one.
            led = whole or end == len(data) or (number < count - 1 and data.startswith(RECORD_BEGINS, end + 2))
            need("its bundle does not hold it", start + number, export_damaged=led)
            yield data[at + 2 : end]


def check_tiles(root: Path, size: int, hashes: list[str]) -> Iterator[Refused]:
    """Compare the tiles of an export of `size` with these leaves. An error names the first entry below a hash."""
    level = 0
    while hashes:
        for start in range(0, len(hashes), 256):
            wanted = [bytes.fromhex(each) for each in hashes[start : start + 256]]
            for width, found in read_tile(root, str(level), start // 256, (size >> 8 * level) - start).items():
                code = "tile_missing" if found is None else "tile_mismatch"
                data = found if found and len(found) == 32 * width else b""
                there = [data[at : at + 32] for at in range(0, len(data), 32)]
                same = takewhile(lambda pair: pair[0] == pair[1], zip(there, wanted, strict=False))
                at = len([*same])
                if at < min(width, len(wanted)):
                    yield Refused(code, f"of level {level}", start + at << 8 * level)
        hashes = [tree_root(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
        level += 1


def examine_export(root: Path, objects: Objects, leaves: list[str]) -> Refused | None:
    """What is wrong first in an export: in its records, as in any ledger, or in its tiles."""
    note = read_whole(root / "checkpoint", 262_144) or b""
    said = re.match(rb"[^\n]*\n([0-9]{1,16})\n", note)
    if said is None:
        return Refused("bad_checkpoint", "it is none")
    size, odd = int(said[1]), list[Refused]()
    wrong = examine(read_bundles(root, size, odd), note, objects, leaves)
    found = [*([wrong] if wrong else []), *odd, *check_tiles(root, size, leaves)]
    return min(found, key=lambda error: -1 if error.entry is None else error.entry, default=None)


def main() -> int:
    """Say whether a ledger is right: 0 when it is, 1 when it is not or cannot be read, 5 when there is none."""
    parser = argparse.ArgumentParser(description="A second opinion on a ledger.")
    parser.add_argument("ledger", type=Path, help="a home, its ledger.db, or an export")
    parser.add_argument("--objects", type=Path, help="the folder of objects; beside the ledger's file when left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    place = arguments.ledger
    path = place / "ledger.db" if place.is_dir() else place
    folder = arguments.objects or path.parent / "objects"

    def find(digest: str) -> io.BufferedIOBase | None:
        file = folder / digest[:2] / digest[2:]
        return file.open("rb") if file.is_file() else None

    objects, leaves = Objects(find), list[str]()
    try:
        if path.exists():
            wrong = examine(*read_database(path), objects, leaves)
        elif (place / "checkpoint").exists():
            wrong = examine_export(place, objects, leaves)
        else:
            print(f"second_opinion: there is no ledger and no export at {place}", file=sys.stderr)
            return 5
    except (sqlite3.Error, OSError) as error:
        print(f"second_opinion: {place}: {error}", file=sys.stderr)
        return 1
    said = {"ok": wrong is None, "size": len(leaves), "head": leaves[-1] if leaves else ZERO, "root": tree_root(leaves)}
    code, seq, message = (wrong.code, wrong.entry, wrong.words) if wrong else (None, None, None)
    if arguments.json:
        text = json.dumps({**said, "code": code, "seq": seq, "message": message}, sort_keys=True)
    elif wrong:
        text = f"NOT OK: {'the ledger' if seq is None else f'entry {seq}'}: {wrong}"
    else:
        count = f"{len(leaves)} {'entry' if len(leaves) == 1 else 'entries'}"
        text = f"ok: {count}\nhead {said['head']}\nroot {said['root']}"
    print(text)
    return 1 if wrong else 0


def run() -> int:
    """As `main`. What keeps it from saying so is no verdict: 130 when interrupted, 141 when nobody reads on, else 5."""
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("second_opinion: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        # Python would complain again when it flushes what is left at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        print(f"second_opinion: cannot write what was found: {error.strerror}", file=sys.stderr)
        return 5
    return code


if __name__ == "__main__":
    sys.exit(run())
