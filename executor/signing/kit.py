"""The kit: what it takes to check one approval with `ssh-keygen`, `openssl` and `sha256sum`, as files.

    entries              number, kind and signer of each entry here, in the order in which the script reads them
    entry-N.record       entry N, as the ledger has it
    entry-N.pae          the bytes that are signed for it
    entry-N.key          the key that signed them, as OpenSSH spells it
    entry-N.sig          a person's signature, as `ssh-keygen -Y sign` writes it
    entry-N.ed25519      a machine's signature, 64 bytes, with its key as openssl reads it in entry-N.pem
    entry-N.tlog-proof   that the entry is in the tree of `checkpoint`, without the record
    lease.json           the lease's statement
    checkpoint           the log's signed note; its text and its signature (64 bytes) as checkpoint.text and .sig
    log.vkey, log.pem    the log's key, as C2SP's tools and as openssl read it
    allowed_signers      the people whose signatures are here, each with the namespace that is used
    revoked              keys that the trust root says are compromised, each with the entry from which on it is
    SHA256SUMS, check.sh, README.txt

The entries are the genesis, every trust root since, the lease, everything that was said for and against it, and its
claim. All of it was verified when it was read; the kit shows it to somebody who does not believe that. Each fact is
laid out so that a shell need not take it apart: the script builds the signed bytes and the records from these files.

Source: docs/FORMAT.md, kit.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Final

from executor.signing.kit_readme import write_readme
from keys.errors import CalyxError, Unavailable, UsageError
from keys.openssh_public import OpenSshKey, fingerprint, format_public, plain_key
from keys.sshsig import format_armor, parse_blob
from keys.values import fold_id, format_base64
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.durable import make_directory, sync_directory, sync_file
from ledger.envelope import pae
from ledger.merkle import ProofRefused
from ledger.note import Note, format_note, format_vkey, parse_note, parse_vkey
from ledger.proof import format_proof, make_inclusion
from ledger.record import Record, parse_record
from ledger.statement import Statement, parse_statement
from ledger.store import Reader
from ledger.verified import namespace_of
from policies.fold.state import LeaseState, State

SCRIPT: Final = "kit_check.sh"
SUMS: Final = "SHA256SUMS"

# RFC 8410: a SubjectPublicKeyInfo with the algorithm Ed25519, before the 32 bytes of the key.
_SPKI: Final = bytes.fromhex("302a300506032b6570032100")


def read_script() -> bytes:
    """`check.sh` of every kit."""
    return files("executor.signing").joinpath(SCRIPT).read_bytes()


def make_kit(state: State, lease: LeaseState, reader: Reader, note: bytes) -> dict[str, bytes]:
    """The files of the kit for a lease, by name. `note`: the checkpoint of exactly what `state` was read from; `reader`
    of the same ledger.

    Raises: CalyxError (`ledger_corrupt`) when the ledger's bytes are not those that were verified; of the store.
    """
    return _Kit(state, lease, reader, note).files()


def write_kit(directory: Path, kit: dict[str, bytes]) -> None:
    """Write a kit to a directory that is new or empty; it appears whole or not at all, durable on return.

    Raises: UsageError (`directory_not_empty`); Unavailable (`kit_write_failed`).
    """
    hidden = directory.with_name(f".{secrets.token_hex(12)}.tmp")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UsageError("directory_not_empty", f"{directory} is there already", hint="name a new directory")
        make_directory(directory.parent)
        hidden.mkdir(0o755)
        for name, data in kit.items():
            with (hidden / name).open("wb") as file:
                file.write(data)
                file.flush()
                sync_file(file.fileno())
        sync_directory(hidden)
        hidden.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise Unavailable("kit_write_failed", f"cannot write the kit to {directory}: {error.strerror}") from None
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def format_pem(raw: bytes) -> bytes:
    """An Ed25519 public key (32 bytes) as openssl takes and writes it. Source: RFC 8410 section 4; RFC 7468."""
    return f"-----BEGIN PUBLIC KEY-----\n{format_base64(_SPKI + raw)}\n-----END PUBLIC KEY-----\n".encode("ascii")


class _Kit:
    def __init__(self, state: State, lease: LeaseState, reader: Reader, note: bytes) -> None:
        self._state = state
        self._lease = lease
        self._reader = reader
        self._vkey = parse_vkey(state.log_key)
        self._checkpoint: Checkpoint = parse_checkpoint(note, self._vkey)
        whole = parse_note(note)
        own = [each for each in whole.signatures if (each.name, each.key_id) == (self._vkey.name, self._vkey.key_id)]
        self._signature = own[0].signature
        self._note = format_note(Note(whole.text, (own[0],)))
        self._allowed: set[str] = set()
        self._entries: list[str] = []

    def files(self) -> dict[str, bytes]:
        state, lease = self._state, self._lease
        compromised = () if state.trust is None else state.trust.compromised
        seqs = [*self._roots(), lease.seq, *self._said()]
        kit: dict[str, bytes] = {}
        for seq in seqs:
            kit |= self._entry(seq)
        kit |= {
            "entries": _lines(self._entries),
            "lease.json": parse_record(kit[f"entry-{lease.seq}.record"]).envelope.body,
            "checkpoint": self._note,
            "checkpoint.text": parse_note(self._note).text.encode("utf-8"),
            "checkpoint.sig": self._signature,
            "log.vkey": _lines([format_vkey(self._vkey)]),
            "log.pem": format_pem(self._vkey.public),
            "allowed_signers": _lines(sorted(self._allowed)),
            "revoked": _lines([f"{each.key} {each.position}" for each in compromised]),
            "check.sh": read_script(),
        }
        kit["README.txt"] = write_readme(state, lease, self._checkpoint, sorted(seqs), self._roots()[-1], kit)
        kit[SUMS] = _lines([f"{sha256(kit[name]).hexdigest()}  {name}" for name in sorted(kit)])
        return kit

    def _roots(self) -> list[int]:
        """The entries of the trust roots that are or were in force; the first is the genesis."""
        # Each root's proposer holds a key of the one before it, so none may be missing between a key and entry 0.
        roots = [each for each in self._state.proposals.values() if each.kind == "trust"]
        return [0, *sorted(each.seq for each in roots if each.decided_seq is not None)]

    def _said(self) -> list[int]:
        """The entries about the lease: objections, then cosignatures, then the claim."""
        lease = self._lease
        against = [each.seq for each in lease.ballot.withdrawals]
        against += [] if lease.denied is None else [lease.denied.seq]
        claim = [] if lease.claim_seq is None else [lease.claim_seq]
        return sorted(against) + sorted(vote.seq for vote in lease.ballot.votes) + claim

    def _entry(self, seq: int) -> dict[str, bytes]:
        record, statement = self._read(seq)
        body, sig = statement.body, record.envelope.sig
        found = {"record": record.data, "pae": pae(body), "tlog-proof": self._prove(record)}
        if self._state.kinds[fold_id(statement.by)] == "human":
            key = parse_blob(sig).key
            found["sig"] = format_armor(sig).encode("ascii")
            self._allowed.add(f'{statement.by} namespaces="{namespace_of(statement.kind)}" {format_public(key)}')
        else:
            key = self._machine_key(record.envelope.keyid)
            found |= {"ed25519": sig, "pem": format_pem(key.raw)}
        found["key"] = _lines([format_public(key)])
        self._entries.append(f"{seq} {statement.kind} {statement.by}")
        return {f"entry-{seq}.{kind}": data for kind, data in found.items()}

    def _read(self, seq: int) -> tuple[Record, Statement]:
        for data in self._reader.read(seq, seq + 1):
            record = parse_record(data)
            if record.leaf == self._state.history.leaf(seq):
                return record, parse_statement(record.envelope.body)
        raise _corrupt(seq)

    def _prove(self, record: Record) -> bytes:
        try:
            proof = make_inclusion(record.seq, record.data, self._note, self._checkpoint, self._reader)
        except ProofRefused:
            raise _corrupt(record.seq) from None
        return format_proof(replace(proof, record=None))

    def _machine_key(self, keyid: str) -> OpenSshKey:
        """The key with this key id among all that any trust root of the ledger ever held."""
        keys = (plain_key(bytes.fromhex(raw)) for raw in self._state.key_owners)
        return next(key for key in keys if fingerprint(key) == keyid)


def _lines(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8")


def _corrupt(seq: int) -> CalyxError:
    return CalyxError(
        "ledger_corrupt",
        f"entry {seq} or its place in the tree is not what was verified",
        hint="calyx audit --full says which",
        entry=seq,
    )
