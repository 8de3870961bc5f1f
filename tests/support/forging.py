"""A forger with every key, the log's too: writes records as the law allows, and then one that it does not.

Everything comes from seeds and a clock that stands still, so the same forgeries come out each time. What follows a
forged entry is signed and chained over it, as whoever holds the log key would do it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from authenticator import Token
from terms import START, fleet, matrix

from keys.canonical import format_json
from keys.errors import CalyxError, FormatError
from keys.openssh import PrivateKey, fingerprint, format_public, new_private_key
from keys.openssh_public import OpenSshKey
from keys.principals import Kind
from keys.signer import FileSigner
from keys.values import ZERO_HASH, format_time
from ledger.chain import Entry
from ledger.envelope import Envelope, pae
from ledger.head import EMPTY_HEAD, Head
from ledger.log_key import LogKey
from ledger.merkle import Frontier, hash_leaf
from ledger.objects import MAX_IN_MEMORY, ObjectRef
from ledger.record import Record, make_record
from ledger.statement import STATEMENT_TYPE, TYPE_PREFIX, TYPE_SUFFIX
from ledger.verified import namespace_of
from policies.fleet import Fleet
from policies.fold.state import State
from policies.law.step import enact, judge
from policies.law.two_key import check_two_key
from policies.matrix import CapabilityMatrix

Subject = tuple[str, str]

# Two pairs share a custodian: ben with eve, ada with cp14b. dan may propose and approve, tok holds a hardware key.
CAST: dict[str, tuple[Kind, str, list[str]]] = {
    "ada": ("human", "ada", ["approver", "governor", "operator"]),
    "ben": ("human", "ben", ["approver", "governor", "operator"]),
    "eve": ("human", "ben", ["approver", "governor", "operator"]),
    "dan": ("human", "dan", ["approver", "proposer"]),
    "tok": ("human", "tok", ["approver"]),
    "cbo": ("overseer", "cbo", ["proposer"]),
    "cp14": ("agent", "cp14", ["sentinel"]),
    "cp14b": ("agent", "ada", ["sentinel"]),
    "cp18": ("agent", "cp18", ["validator"]),
    "cp19": ("monitor", "cp19", []),
    "cp20": ("executor", "cp20", []),
    "cp20b": ("executor", "cp20b", []),
}
_random = Random(7).randbytes  # seeded; these keys guard nothing
KEYS: dict[str, PrivateKey] = {name: new_private_key(_random) for name in (*CAST, "spare", "other")}
LOG_KEY = LogKey.generate("station.example/reject", _random)
TOKEN = Token()


def key_line(name: str) -> str:
    """The public key line of a principal, or of a key that nobody holds."""
    if name == "tok":
        return format_public(OpenSshKey(TOKEN.blob))
    return format_public(KEYS[name].public)


def person(name: str, **changes: Any) -> dict[str, Any]:
    """A principal of a trust root as JSON material."""
    kind, custodian, roles = CAST[name]
    key = {"key": key_line(name), "user_verification": False}
    return {"id": name, "kind": kind, "custodian": custodian, "roles": sorted(roles), "keys": [key], **changes}


def trust(*names: str, **changes: Any) -> dict[str, Any]:
    """A trust root as JSON material, of everyone unless some are named."""
    root = {
        "law": 1,
        "principals": [person(name) for name in names or CAST],
        "thresholds": {"governors": 2, "operators": 2},
        "expires": "2030-01-01T00:00:00Z",
        "compromised": [],
    }
    return {**root, **changes}


def policy(**changes: Any) -> dict[str, Any]:
    """A policy as JSON material."""
    hooks = {"drain": {"argv": ["/bin/true"], "timeout_s": 5}}
    return json_object(CapabilityMatrix.from_json(matrix(**{"hooks": hooks, **changes})).to_json())


def json_object(value: Any) -> dict[str, Any]:
    """What is known to be an object."""
    assert isinstance(value, dict)
    return value


def after(now: int, seconds: int) -> str:
    """A time so far from another."""
    return format_time(now + seconds)


def digest_of(number: int) -> str:
    """Any hash."""
    return sha256(b"%d" % number).hexdigest()


class ForgedObjects:
    """Objects in memory, as the law and an audit see a store. `kept`: digest -> content, right or wrong."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept = dict(kept or {})

    def put(self, data: bytes) -> ObjectRef:
        ref = ObjectRef(sha256=sha256(data).hexdigest(), size=len(data))
        self.kept[ref.sha256] = data
        return ref

    def get(self, ref: ObjectRef) -> bytes:
        if ref.size > MAX_IN_MEMORY:
            raise FormatError("too large for memory", code="too_large")
        data = self.kept.get(ref.sha256)
        if data is None:
            raise CalyxError("object_missing", "it is not here")
        if len(data) != ref.size or sha256(data).hexdigest() != ref.sha256:
            raise CalyxError("object_mismatch", "it is something else")
        return data

    def check(self, ref: ObjectRef) -> None:
        self.get(ref)

    def find(self, digest: str) -> ObjectRef | None:
        data = self.kept.get(digest)
        return None if data is None else ObjectRef(sha256=digest, size=len(data))


@dataclass
class Forge:
    """A ledger in memory. `state`: after its lawful entries. `forged`: seq of the entry that is not lawful. `it`: the
    lease that the story is about.
    """

    state: State = field(default_factory=State)
    records: list[Record] = field(default_factory=list)
    objects: ForgedObjects = field(default_factory=ForgedObjects)
    now: int = START
    forged: int | None = None
    it: Subject = ("", "")

    @property
    def head(self) -> Head:
        return Head(len(self.records), self.records[-1].leaf) if self.records else EMPTY_HEAD

    def checkpoint(self) -> bytes:
        return checkpoint_of([record.data for record in self.records])

    def fork(self) -> Forge:
        """Another ledger with the same past."""
        return deepcopy(self, {id(each): each for each in (*self.records, *self.state.fleets.values())})

    def common(self, who: str) -> dict[str, Any]:
        """What a statement says besides its own fields."""
        return {
            "by": who,
            "ledger": self.records[0].leaf if self.records else ZERO_HASH,
            "head": {"size": self.head.size, "hash": self.head.hash},
            "nonce": sha256(b"nonce %d" % self.head.size).hexdigest()[:32],
            "made_at": format_time(self.now),
        }

    def body(self, kind: str, predicate: Any, subject: Subject | None = None, **members: Any) -> bytes:
        """A statement's bytes, whatever it says."""
        name, digest = subject or (kind, sha256(format_json(predicate)).hexdigest())
        value = {
            "_type": STATEMENT_TYPE,
            "predicate": predicate,
            "predicateType": TYPE_PREFIX + kind + TYPE_SUFFIX,
            "subject": [{"digest": {"sha256": digest}, "name": name}],
        }
        return format_json({**value, **members})

    def sign(self, who: str, kind: str, body: bytes, key: PrivateKey | None = None) -> Envelope:
        """A signed statement in the scheme of its signer. `key`: another than that of `who`."""
        namespace = namespace_of(kind)
        if who == "tok" and key is None:
            return Envelope(body, fingerprint(OpenSshKey(TOKEN.blob)), TOKEN.sign(namespace, pae(body)))
        signer = FileSigner(who, CAST[who][0], key or KEYS[who])
        return Envelope(body, signer.keyid, signer.sign(pae(body), namespace))

    def say(
        self,
        who: str,
        kind: str,
        fields: dict[str, Any],
        subject: Subject | None = None,
        key: PrivateKey | None = None,
        **common: Any,
    ) -> Subject:
        """A lawful entry; what another statement has to name to be about it. `common`: what it says of `by`, `head` and
        so on in place of the truth.
        """
        body = self.body(kind, {**self.common(who), **fields, **common}, subject)
        self.put(self.sign(who, kind, body, key))
        name = fields["id"] if kind == "lease" else kind
        return name, sha256(body).hexdigest()

    def put(self, envelope: Envelope) -> Record:
        """A lawful entry."""
        record = make_record(self.head.size, self.head.hash, self.now, envelope)
        entry = Entry(record.seq, record, record.leaf)
        change, verified = judge(self.state, entry, self.objects)
        self.state = enact(self.state, entry, change, verified)
        self.records.append(record)
        return record

    def forge(
        self,
        who: str,
        kind: str,
        fields: dict[str, Any],
        subject: Subject | None = None,
        key: PrivateKey | None = None,
        **common: Any,
    ) -> None:
        """An entry that should be refused."""
        body = self.body(kind, {**self.common(who), **fields, **common}, subject)
        self.force(self.sign(who, kind, body, key))

    def force(self, envelope: Envelope) -> None:
        """An entry that should be refused, whatever it is."""
        self.forged = self.head.size
        self.records.append(make_record(self.head.size, self.head.hash, self.now, envelope))

    def force_bytes(self, data: bytes) -> None:
        """Bytes in the place of the next record, whatever they are."""
        self.forged = self.head.size
        envelope = Envelope(b"-", "", b"-")
        leaf = hash_leaf(data).hex()
        self.records.append(
            Record(self.head.size, self.head.hash, format_time(self.now), self.now, envelope, data, leaf)
        )

    def follow(self) -> None:
        """Something that would be lawful, said and chained over what was forged."""
        fields = {"type": "question", "to": None, "reply_to": None, "text": "after it"}
        body = self.body("message", {**self.common("cbo"), **fields})
        envelope = self.sign("cbo", "message", body)
        self.records.append(make_record(self.head.size, self.head.hash, self.now, envelope))

    def refusal(self) -> CalyxError | None:
        """Why the law refuses the forged entry."""
        record = self.records[self.forged or 0]
        try:
            judge(self.state, Entry(record.seq, record, record.leaf), self.objects)
        except CalyxError as error:
            return error
        return None

    # What people and machines say, right as it is.

    def genesis_fields(self, **changes: Any) -> dict[str, Any]:
        fields = {
            "origin": LOG_KEY.origin,
            "log_key": str(LOG_KEY.vkey),
            "trust": trust(),
            "policy": policy(),
            "continues": None,
        }
        return {**fields, **changes}

    def proposal(self, kind: str, content: Any, **changes: Any) -> dict[str, Any]:
        """A change of trust, policy or fleet on what is in force."""
        base = {"trust": self.state.trust_digest, "policy": self.state.policy_digest, "fleet": self.state.fleet_digest}
        fields = {"base": base[kind], "reason": "a test", "approve_by": after(self.now, 3600), kind: content}
        return {**fields, **changes}

    def fleet_object(self, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A fleet's body, kept."""
        data = Fleet.from_json(body or fleet(4)).canonical()
        return json_object(self.objects.put(data).to_json())

    def enact(self, kind: str, content: Any, voters: tuple[str, ...] = ("ada", "ben")) -> Subject:
        """A proposal, in force."""
        subject = self.say("ada", kind, self.proposal(kind, content))
        for voter in voters:
            self.vote(voter, subject, "operator" if kind == "fleet" else "governor")
        return subject

    def vote(self, who: str, subject: Subject, role: str, review: str | None = None) -> Subject:
        return self.say(who, "cosignature", {"role": role, "review": review}, subject)

    def intent(self, name: str, target: str = "web") -> Subject:
        return self.say("cbo", "intent", {"id": name, "target": target, "what": "a new version", "why": "a test"})

    def lease_fields(self, number: int = 1, **changes: Any) -> dict[str, Any]:
        """A lease over the four instances of `web`, from tree 1 to tree 2."""
        state = self.state
        assert state.policy is not None
        terms = state.policy.deploy_production
        fields = {
            "id": f"LEASE-20260105-{number:06}",
            "intent": f"INT-20260105-{number:03}",
            "capability": "deploy_production",
            "target": "web",
            "fleet": state.fleet_digest,
            "policy": state.policy_digest,
            "rule": "two_key",
            "artifact": {"type": "patch", **json_object(self.objects.put(b"patch").to_json())},
            "changes": [{"before": digest_of(1), "after": digest_of(2), "instances": names(4)}],
            "paths": ["app.py"],
            "not_before": format_time(self.now),
            "approve_by": after(self.now, 600),
            "execute_by": after(self.now, 900),
            "complete_by": after(self.now, 3600),
            "tiers": list(terms.tiers),
            "bake_s": terms.bake_s,
            "interval_s": terms.interval_s,
            "gates": [gate.to_json() for gate in terms.gates],
            "start": terms.start,
            "promotion": terms.promotion,
            "hooks": {"drain": None, "undrain": None},
            "reason": "a test",
        }
        return {**fields, **changes}

    def lease(self, number: int = 1, who: str = "cbo", **changes: Any) -> Subject:
        """An intent and its lease."""
        fields = self.lease_fields(number, **changes)
        self.intent(fields["intent"], fields["target"])
        return self.say(who, "lease", fields)

    def review(self, who: str, lease: Subject, verdict: str = "pass", role: str | None = None) -> str:
        """An agent's review; its digest."""
        fields = {"role": role or CAST[who][2][0], "verdict": verdict, "summary": "looked at", "findings": None}
        return self.say(who, "review", fields, lease)[1]

    def approve(self, lease: Subject, human: str = "ada", agent: str = "cp14") -> None:
        """Both keys."""
        self.vote(human, lease, "approver")
        self.vote(agent, lease, CAST[agent][2][0], self.review(agent, lease))

    def term(self, who: str = "cp20") -> Subject:
        epoch = 1 if self.state.term is None else self.state.term.epoch + 1
        return self.say(who, "term", {"epoch": epoch, "reason": "a test"})

    def claim_fields(self, lease: Subject, **changes: Any) -> dict[str, Any]:
        """What a claim says; where the two-key rule does not hold now, what one would say."""
        state = self.state
        known = state.leases[lease[1]]
        try:
            verified = check_two_key(state, lease[1], self.now)
        except CalyxError:
            counted, cohorts = [vote.seq for vote in known.ballot.votes[:2]] or [1, 2], {100: tuple(known.before)}
        else:
            counted, cohorts = [vote.seq for vote in verified.counted], verified.cohorts
        trees: dict[str, list[str]] = {}
        for name, tree in known.before.items():
            trees.setdefault(tree, []).append(name)
        fields = {
            "type": "VERIFIED_2KEY",
            "epoch": state.term.epoch if state.term else 0,
            "counted": (counted * 2)[:2],
            "cohorts": [{"tier": tier, "instances": list(group)} for tier, group in cohorts.items()],
            "seen": [{"tree": tree, "instances": group} for tree, group in trees.items()],
            "reverse": None,
        }
        return {**fields, **changes}

    def claim(self, lease: Subject) -> None:
        self.say("cp20", "claim", self.claim_fields(lease), lease)

    def event_fields(self, who: str, type_: str, **detail: Any) -> dict[str, Any]:
        epoch = self.state.term.epoch if self.state.term is not None and CAST[who][0] == "executor" else None
        return {"epoch": epoch, "detail": {"type": type_, **detail}}

    def event(self, who: str, lease: Subject, type_: str, **detail: Any) -> Subject:
        return self.say(who, "event", self.event_fields(who, type_, **detail), lease)

    def forge_event(self, who: str, lease: Subject, type_: str, **detail: Any) -> None:
        self.forge(who, "event", self.event_fields(who, type_, **detail), lease)

    def command_fields(self, lease: Subject, verb: str, **changes: Any) -> dict[str, Any]:
        deployment = self.state.deployments.get(lease[1])
        bound = verb in {"start", "resume", "promote"} and deployment is not None
        fields = {
            "verb": verb,
            "expires_at": after(self.now, 600),
            "state": deployment.state_leaf if bound and deployment is not None else None,
            "tier": deployment.tier if verb == "promote" and deployment is not None else None,
            "skip_bake": False,
            "reason": "a test",
        }
        return {**fields, **changes}

    def command(self, who: str, lease: Subject, verb: str, **changes: Any) -> Subject:
        return self.say(who, "command", self.command_fields(lease, verb, **changes), lease)

    def forge_command(self, who: str, lease: Subject, verb: str, **changes: Any) -> None:
        self.forge(who, "command", self.command_fields(lease, verb, **changes), lease)


def list_object(forge: Forge, items: list[str]) -> dict[str, Any]:
    """A list of names or paths as an object, kept."""
    return json_object(forge.objects.put(format_json(list(items))).to_json())


def names(count: int) -> list[str]:
    """Names of the instances of `web`."""
    return [f"web-{number:02}" for number in range(1, count + 1)]


def checkpoint_of(records: list[bytes], sign: Callable[[int, bytes], bytes] = LOG_KEY.sign) -> bytes:
    """The log's checkpoint over these bytes, whatever they are."""
    frontier = Frontier()
    for data in records:
        frontier.append(sha256(b"\x00" + data).digest())
    return sign(len(records), frontier.root())


__all__ = ["CAST", "KEYS", "LOG_KEY", "TOKEN", "Forge", "Subject", "after", "digest_of", "key_line", "names"]
