"""The worked example of docs/FORMAT.md is made again and compared byte for byte, and verified with nothing but the
document's rules, SHA-2 and libsodium.

After a change of the format, `PYTHONPATH=tests/support python tests/unit/project/test_format_doc.py` writes it again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from documents import FORMAT, read_part, write_parts
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from keys.ed25519 import SigningKey
from keys.openssh import PrivateKey, fingerprint, format_public
from keys.signer import FileSigner
from keys.values import parse_time
from ledger.log_key import LogKey
from ledger.memory import HeadMemory
from ledger.objects import DirectoryObjects
from ledger.record import parse_record
from ledger.sqlite.store import SqliteStore
from policies.matrix import CapabilityMatrix
from policies.pin import Pin
from policies.registrar import Registrar
from policies.submitter import Draft

# The worked example: two entries, made by the real registrar from seeds that guard nothing.

START: Final = parse_time("2026-01-05T09:00:00Z")
ORIGIN: Final = "station.example/calyx-00000000"
PEOPLE: Final = (
    ("ada", "human", ["approver", "governor", "operator"], b"\x01" * 32),
    ("cbo", "overseer", ["proposer"], b"\x02" * 32),
)
LOG_SEED: Final = b"\x03" * 32
POLICY: Final[dict[str, Any]] = {
    "version": 1,
    "phases": {
        "0": {"name": "reflect", "status": "implemented", "capabilities": ["intent"]},
        "1": {"name": "review", "status": "implemented", "capabilities": []},
        "2": {"name": "sandbox", "status": "implemented", "capabilities": []},
        "3": {"name": "deploy", "status": "pending", "capabilities": ["deploy_production"]},
    },
    "deploy_production": {
        "enabled": False,
        "targets": {"web": {"paths": ["app.py", "static/"]}},
        "tiers": [5, 25, 100],
        "bake_s": 900,
        "interval_s": 15,
        "retention_s": 604_800,
        "start": "auto",
        "promotion": "auto",
        "skip_bake": False,
        "look": True,
        "reviews": ["sentinel"],
        "gates": [
            {
                "name": "error_rate",
                "source": "error_rate",
                "against": "absolute",
                "breach": "above",
                "limit": "10",
                "absolute": None,
                "for_s": 15,
                "min_samples": 3,
                "missing_s": 120,
                "min_requests": 20,
            }
        ],
        "hooks": {},
        "break_glass": {"enabled": False, "max_validity_s": 0, "review_within_s": 0, "user_verification": True},
        "notify": {},
    },
}


class Steps:
    """A clock that moves a minute, and randomness that counts, each time that they are asked for a statement."""

    def __init__(self) -> None:
        self.now = START
        self.counter = 0

    def random(self, size: int, /) -> bytes:
        self.counter += 1
        return bytes([0xA0 + self.counter]) * size


def make_example(root: Path) -> tuple[list[bytes], list[bytes]]:
    """The records of a genesis and an intent, and the checkpoint after each."""
    steps = Steps()
    private = {name: PrivateKey(seed) for name, _, _, seed in PEOPLE}
    log_key = LogKey(ORIGIN, SigningKey(LOG_SEED))
    listed = [
        {
            "id": name,
            "kind": kind,
            "custodian": name,
            "roles": roles,
            "keys": [{"key": format_public(private[name].public), "user_verification": False}],
        }
        for name, kind, roles, _ in PEOPLE
    ]
    trust = {
        "law": 1,
        "principals": listed,
        "thresholds": {"governors": 1, "operators": 1},
        "expires": "2027-01-05T09:00:00Z",
        "compromised": [],
    }
    genesis = {
        "origin": ORIGIN,
        "log_key": str(log_key.vkey),
        "trust": trust,
        "policy": CapabilityMatrix.from_json(POLICY).to_json(),
        "continues": None,
    }
    intent = {
        "id": "INT-20260105-001",
        "target": "web",
        "what": "Version 2 of the web service",
        "why": "It answers faster",
    }
    with SqliteStore.create(root / "ledger.db") as store:
        objects, pin = DirectoryObjects(root / "objects"), Pin(HeadMemory(root / "memory"), "example")
        registrar = Registrar(store, objects, log_key, pin, clock=lambda: steps.now, random=steps.random)
        registrar.create(FileSigner("ada", "human", private["ada"]), Draft("genesis", genesis))
        notes = [store.checkpoint()]
        steps.now += 60
        registrar.submit(FileSigner("cbo", "overseer", private["cbo"]), Draft("intent", intent))
        notes.append(store.checkpoint())
        return list(store.read()), notes


def format_example() -> str:
    with TemporaryDirectory(prefix="calyx-example-") as scratch:
        records, notes = make_example(Path(scratch))
    lines = ["```text"]
    for name, kind, _, seed in PEOPLE:
        key = PrivateKey(seed).public
        lines += [
            f"seed of {name}, {kind}: {seed[:1].hex()} 32 times",
            f"  {format_public(key)}",
            f"  {fingerprint(key)}",
        ]
    lines += [f"seed of the log: {LOG_SEED[:1].hex()} 32 times", "```"]
    for data, note in zip(records, notes, strict=True):
        record = parse_record(data)
        body = record.envelope.body
        encoded = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(body) + body
        lines += [
            "",
            f"Entry {record.seq}, a statement of {len(body)} bytes in a record of {len(data)}:",
            "",
            "```text",
            f"statement   {body.decode()}",
            f"digest      {hashlib.sha256(body).hexdigest()}",
            f"PAE         DSSEv1 28 application/vnd.in-toto+json {len(body)} (and the statement)",
            f"its SHA-256 {hashlib.sha256(encoded).hexdigest()}",
            f"signature   {base64.b64encode(record.envelope.sig).decode()}",
            f"record      {data.decode()}",
            f"leaf        {record.leaf}",
            "checkpoint",
            note.decode().removesuffix("\n"),
            "```",
        ]
    return "\n".join(lines)


def test_the_example_is_what_the_code_makes() -> None:
    assert read_part(FORMAT, "example") == format_example()


# The example, verified by someone who has the document and no code of ours.


def labelled(text: str, label: str) -> str:
    found = re.findall(rf"^{label} +(.+)$", text, re.MULTILINE)
    assert len(found) == 1, label
    return str(found[0])


def canonical(value: Any) -> bytes:
    # Enough for the example: its text is ASCII, and ASCII without controls is where json and RFC 8785 agree.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def ssh_string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    assert len(signature) == 64
    crypto_sign_open(signature + message, public)


def verify_human(blob: bytes, line: str, namespace: bytes, message: bytes) -> None:
    key = base64.b64decode(line.split(" ")[1], validate=True)
    frame = ssh_string(namespace) + ssh_string(b"") + ssh_string(b"sha512")
    start = b"SSHSIG" + (1).to_bytes(4, "big") + ssh_string(key) + frame
    inner, signature = (
        start + (83).to_bytes(4, "big") + ssh_string(b"ssh-ed25519") + (64).to_bytes(4, "big"),
        blob[-64:],
    )
    assert blob == inner + signature
    verify(key[-32:], b"SSHSIG" + frame + ssh_string(hashlib.sha512(message).digest()), signature)


def verify_checkpoint(note: str, vkey: str, size: int, root: bytes) -> None:
    name, key_id, encoded = vkey.split("+", 2)
    kind_and_key = base64.b64decode(encoded, validate=True)
    assert kind_and_key[0] == 1
    assert hashlib.sha256(name.encode() + b"\n" + kind_and_key).digest()[:4].hex() == key_id
    text, _, line = note.partition("\n\n")
    assert text == f"{name}\n{size}\n{base64.b64encode(root).decode()}"
    dash, signer, signature = line.split(" ")
    raw = base64.b64decode(signature, validate=True)
    assert (dash, signer, raw[:4].hex()) == ("—", name, key_id)
    verify(kind_and_key[1:], (text + "\n").encode(), raw[4:])


@pytest.fixture(scope="module")
def shown() -> list[dict[str, Any]]:
    """What the document shows of each entry."""
    entries = []
    for part in re.findall(r"^Entry .*?```text\n(.*?)\n```$", read_part(FORMAT, "example"), re.DOTALL | re.MULTILINE):
        facts, note = part.split("\ncheckpoint\n")
        texts = {name: labelled(facts, name) for name in ("digest", "its SHA-256", "signature", "leaf")}
        raw = {name: labelled(facts, name).encode() for name in ("statement", "record")}
        entries.append({**texts, **raw, "note": note})
    return entries


def leaves_of(shown: list[dict[str, Any]]) -> Iterator[bytes]:
    for entry in shown:
        yield hashlib.sha256(b"\x00" + entry["record"]).digest()


def test_a_stranger_verifies_the_example_with_the_document_alone(shown: list[dict[str, Any]]) -> None:
    assert len(shown) == 2
    trust = json.loads(shown[0]["statement"])["predicate"]["trust"]
    vkey = json.loads(shown[0]["statement"])["predicate"]["log_key"]
    lines = {person["id"]: (person["kind"], person["keys"][0]["key"]) for person in trust["principals"]}
    before, seen, leaves = "0" * 64, "0" * 64, list(leaves_of(shown))
    for seq, entry in enumerate(shown):
        body = entry["statement"]
        statement, record = json.loads(body), json.loads(entry["record"])
        predicate = statement["predicate"]
        assert canonical(statement) == body
        assert canonical(record) == entry["record"]
        assert entry["digest"] == hashlib.sha256(body).hexdigest()
        kind = statement["predicateType"].removeprefix("https://station.calyx/").removesuffix("/v1")
        own = hashlib.sha256(canonical(predicate)).hexdigest()
        assert statement["subject"] == [{"digest": {"sha256": own}, "name": kind}]
        assert base64.b64decode(record["envelope"]["payload"], validate=True) == body
        pae = b"DSSEv1 28 application/vnd.in-toto+json " + str(len(body)).encode() + b" " + body
        assert entry["its SHA-256"] == hashlib.sha256(pae).hexdigest()
        (signature,) = record["envelope"]["signatures"]
        assert entry["signature"] == signature["sig"]
        who, line = lines[predicate["by"]]
        blob = base64.b64decode(line.split(" ")[1], validate=True)
        name = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        assert signature["keyid"] == f"SHA256:{name}"
        raw = base64.b64decode(signature["sig"], validate=True)
        if who == "human":
            verify_human(raw, line, b"statement-v1@station.calyx", pae)
        else:
            verify(blob[-32:], pae, raw)
        assert (record["seq"], record["prev"]) == (seq, before)
        assert predicate["head"] == {"hash": before, "size": seq}
        assert predicate["ledger"] == seen
        leaf = hashlib.sha256(b"\x00" + entry["record"]).hexdigest()
        assert entry["leaf"] == leaf
        root = leaves[0] if seq == 0 else hashlib.sha256(b"\x01" + leaves[0] + leaves[1]).digest()
        verify_checkpoint(entry["note"], vkey, seq + 1, root)
        before = leaf
        seen = seen if seq else leaf


def test_the_strangers_verifier_refuses_a_changed_example(shown: list[dict[str, Any]]) -> None:
    changed = [dict(entry) for entry in shown]
    changed[0]["note"] = changed[0]["note"].replace("\n1\n", "\n2\n")
    with pytest.raises((AssertionError, BadSignatureError)):
        test_a_stranger_verifies_the_example_with_the_document_alone(changed)
    changed = [dict(entry) for entry in shown]
    changed[1]["statement"] = changed[1]["statement"].replace(b"faster", b"slower")
    with pytest.raises((AssertionError, BadSignatureError)):
        test_a_stranger_verifies_the_example_with_the_document_alone(changed)


if __name__ == "__main__":
    write_parts(FORMAT, {"example": format_example})
