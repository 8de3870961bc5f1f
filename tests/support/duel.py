"""Two verifiers of one ledger, entry by entry: what the one says of an entry that was signed and forced, the other says
too, and whoever asks before signing is told the same.

A duel holds a ledger that both found lawful so far. Each attempt is judged by both where it would stand; what both
refuse by the same code leaves the ledger as it was, so one past serves many wrong futures.
"""

from __future__ import annotations

import io
import pickle
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from authenticator import Token
from forging import KEYS, TOKEN, Forge
from verdicts import SECOND, Verdict, audit_verdict, of_forge, second_verdict

from keys.errors import CalyxError
from keys.openssh import PrivateKey, fingerprint, format_public, new_private_key
from keys.openssh_public import OpenSshKey
from keys.principals import KeyEntry, Kind
from keys.signer import FileSigner
from keys.values import fold_id
from ledger.chain import Entry
from ledger.envelope import Envelope, pae
from ledger.record import make_record
from ledger.statement import parse_statement
from ledger.verified import namespace_of, open_envelope
from policies.law.position import find_holder, parse_predicate
from policies.law.step import enact, foresee, judge

_SPARE = Random(11).randbytes  # seeded; these keys guard nothing
SPARES = [new_private_key(_SPARE) for _ in range(12)]
TOKENS = [TOKEN, Token(b"\x12" * 32), Token(b"\x13" * 32, b"ssh:other")]
KEYRING: dict[str, PrivateKey | Token] = {
    **{format_public(key.public): key for key in (*KEYS.values(), *SPARES)},
    **{format_public(OpenSshKey(token.blob)): token for token in TOKENS},
}
"""Every key by its line. Who holds it is the trust root's to say."""
COARSER = {"not_canonical": "bad_format"}
"""As in `test_second_opinion`: what has a default in the project's models is left out."""


def same_code(ours: str | None, theirs: str | None) -> bool:
    """Whether the audit's code and the second opinion's mean the same."""
    return ours == theirs or (ours is not None and theirs is not None and COARSER.get(ours) == theirs)


def sign_with(line: str, kind: Kind, what: str, body: bytes, *, flags: int = 0x05) -> Envelope:
    """A statement signed by the key of that line, as a principal of `kind` does it. `what`: kind of the statement."""
    key, namespace = KEYRING[line], namespace_of(what)
    if isinstance(key, Token):
        return Envelope(body, fingerprint(OpenSshKey(key.blob)), key.sign(namespace, pae(body), flags=flags))
    signer = FileSigner("anyone", kind, key)
    return Envelope(body, signer.keyid, signer.sign(pae(body), namespace))


@dataclass(frozen=True)
class Difference:
    """An entry of which the verifiers say different things; `ours`, `theirs`: the codes, None for lawful. Where `kind`
    begins with `foreseen`, `theirs` is what was said before it was signed.
    """

    kind: str
    ours: str | None
    theirs: str | None
    what: str


class Attempt(NamedTuple):
    """What was signed, when it would have been recorded, and why it was not."""

    time: int
    envelope: Envelope
    code: str | None


@dataclass
class Duel:
    """One ledger under both. `refused`: code -> how often both gave it. `taken`: what became entries, by kind.
    `differences`: what they disagreed on. `log`: each attempt, in order.
    """

    random: Random
    forge: Forge = field(default_factory=Forge)
    refused: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    log: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leaves: list[str] = []
        self.law: Any = SECOND.Law(SECOND.Objects(self._find), self.leaves)
        self._kept: bytes | None = None

    def _find(self, digest: str) -> io.BytesIO | None:
        data = self.forge.objects.kept.get(digest)
        return None if data is None else io.BytesIO(data)

    def attempt(self, envelope: Envelope, kind: str, what: str) -> str | None:
        """Judge an entry by both, and take it into the ledger when both find it lawful; else the code."""
        forge = self.forge
        record = make_record(forge.head.size, forge.head.hash, forge.now, envelope)
        entry = Entry(record.seq, record, record.leaf)
        foreseen = self._foresee(envelope)
        try:
            change, verified = judge(forge.state, entry, forge.objects)
        except CalyxError as error:
            if foreseen != error.code and self._refuses_signature(envelope) != error.code:
                self.differences.append(Difference(f"foreseen {kind}", error.code, foreseen, what))
            theirs = self._opinion(self._copy(), record.data, record.seq)
            if not same_code(error.code, theirs):
                self.differences.append(Difference(kind, error.code, theirs, what))
            self.refused[error.code] += 1
            self.log.append(Attempt(forge.now, envelope, error.code))
            return error.code
        if foreseen is not None:
            self.differences.append(Difference(f"foreseen {kind}", None, foreseen, what))
        self._snapshot()
        theirs = self._opinion(self.law, record.data, record.seq)
        if theirs is not None:
            self.differences.append(Difference(kind, None, theirs, what))
            self.law = self._copy()
            return theirs
        forge.state = enact(forge.state, entry, change, verified)
        forge.records.append(record)
        self.taken[kind] += 1
        self.log.append(Attempt(forge.now, envelope, None))
        self._kept = None
        return None

    def _foresee(self, envelope: Envelope) -> str | None:
        """What whoever signs would be told before: the code, None for lawful."""
        forge = self.forge
        try:
            foresee(forge.state, parse_statement(envelope.body), envelope.keyid, forge.now, forge.objects)
        except CalyxError as error:
            return error.code
        return None

    def _refuses_signature(self, envelope: Envelope) -> str | None:
        """Why the signature is none, which nobody can foresee; None where it is good, or is not looked at."""
        try:
            statement = parse_statement(envelope.body)
            holder = find_holder(self.forge.state, statement, parse_predicate(statement), envelope.keyid)
        except CalyxError:
            return None
        try:
            open_envelope(envelope, statement, holder.enrolled)
        except CalyxError as error:
            return error.code
        return None

    def _opinion(self, law: Any, data: bytes, seq: int) -> str | None:
        try:
            record = SECOND.parse_record(data, seq)
            law.leaves.append(record.leaf)
            law.judge(record)
        except SECOND.Refused as error:
            return str(error.code)
        return None

    def _snapshot(self) -> bytes:
        if self._kept is None:
            buffer = io.BytesIO()
            _Pickler(buffer, self.law.objects).dump(self.law)
            self._kept = buffer.getvalue()
        return self._kept

    def _copy(self) -> Any:
        return _Unpickler(io.BytesIO(self._snapshot()), self.law.objects).load()

    @property
    def forced(self) -> list[Envelope]:
        """What both refused."""
        return [attempt.envelope for attempt in self.log if attempt.code is not None]

    def finish(self, envelope: Envelope | None = None) -> tuple[Verdict, Verdict]:
        """Both verdicts on the whole ledger, with an entry forced behind it and another over that one."""
        forge = self.forge.fork()
        if envelope is not None:
            forge.force(envelope)
            forge.follow()
        ledger = of_forge(forge)
        return audit_verdict(ledger), second_verdict(ledger)

    def signing(self, who: str, *, proposed: bool = False) -> list[tuple[Kind, KeyEntry]]:
        """The keys that a principal holds, with its kind; `proposed`: also those that an open proposal gives it."""
        roots = [self.forge.state.trust] if self.forge.state.trust is not None else []
        if proposed:
            offers = [p.proposal for p in self.forge.state.proposals.values() if p.kind == "trust"]
            roots += [offer.trust for offer in offers[-3:] if hasattr(offer, "trust")]
        return [
            (principal.kind, entry)
            for root in roots
            for principal in root.principals
            if fold_id(principal.id) == fold_id(who)
            for entry in principal.keys
        ]


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, shared: object) -> None:
        super().__init__(buffer, pickle.HIGHEST_PROTOCOL)
        self._shared = shared

    def persistent_id(self, obj: object) -> str | None:
        return "objects" if obj is self._shared else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, shared: object) -> None:
        super().__init__(buffer)
        self._shared = shared

    def persistent_load(self, pid: object) -> object:
        return self._shared
