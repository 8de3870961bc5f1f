"""Principals and the trust root: who may sign, in which role, and with which key.

A root is judged as a whole by `check_trust_root`, and as the successor of another by `check_succession`.
Thresholds count principals, raw keys and custodians that are all distinct: `count_distinct`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Final, Literal, NamedTuple, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from keys.ed25519 import check_public
from keys.errors import CalyxError, LawRefused
from keys.openssh_public import HARDWARE, OpenSshKey, fingerprint, format_public, parse_public
from keys.values import Count, Ident, Model, One, Seq, Time, fold_id

Kind: TypeAlias = Literal["human", "agent", "overseer", "executor", "monitor"]
Role: TypeAlias = Literal["governor", "operator", "approver", "proposer", "sentinel", "validator"]
Scheme: TypeAlias = Literal["sshsig", "ed25519"]

HUMAN_ROLES: Final[frozenset[Role]] = frozenset({"governor", "operator", "approver"})
AGENT_ROLES: Final[frozenset[Role]] = frozenset({"sentinel", "validator"})


def scheme_of(kind: Kind) -> Scheme:
    """How principals of a kind sign: humans with SSHSIG, machines with bare Ed25519."""
    return "sshsig" if kind == "human" else "ed25519"


def _spelled_key(text: str) -> str:
    try:
        canonical = format_public(parse_public(text))
    except CalyxError as error:
        raise ValueError(error.message) from None
    if canonical != text:
        raise ValueError("not a public key line without comment")
    return text


PublicLine: TypeAlias = Annotated[str, AfterValidator(_spelled_key)]
"""An OpenSSH public key as `type base64`, without comment; its point is judged."""


class KeyEntry(Model):
    """A key of a principal. `user_verification`: its token must verify its user at each signature."""

    key: PublicLine
    user_verification: bool

    @cached_property
    def public(self) -> OpenSshKey:
        """The parsed key."""
        return parse_public(self.key)


class Principal(Model):
    """Someone who signs. `custodian`: the declared id of who answers for the keys, compared as a string."""

    id: Ident
    kind: Kind
    custodian: Ident
    roles: Seq[Role]
    keys: Annotated[Seq[KeyEntry], Field(min_length=1)]

    @model_validator(mode="after")
    def _roles_are_a_sorted_set(self) -> Self:
        if list(self.roles) != sorted(set(self.roles)):
            raise ValueError("roles are not sorted and unique")
        return self


class Compromise(Model):
    """A revoked key: from `position` (the seq of an entry) on, its cosignatures do not count."""

    key: PublicLine
    position: Count

    @cached_property
    def public(self) -> OpenSshKey:
        """The parsed key."""
        return parse_public(self.key)


class Thresholds(Model):
    """How many distinct governors and operators a change needs."""

    governors: Annotated[int, Field(ge=1, le=1000)]
    operators: Annotated[int, Field(ge=1, le=1000)]


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """A key as the trust root enrols it at some position: whose it is, what kind of principal that is, and whether its
    token must verify its user. `keyid`: the key's fingerprint.
    """

    principal: str
    kind: Kind
    key: OpenSshKey
    user_verification: bool
    keyid: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keyid", fingerprint(self.key))


class Holder(NamedTuple):
    """A key and the principal who holds it. `enrolled`: both, as signatures are checked with them."""

    principal: Principal
    entry: KeyEntry
    enrolled: EnrolledKey


class Signer(NamedTuple):
    """A key that signed, and the principal id it signed for. `raw`: 32 bytes."""

    principal: str
    raw: bytes


class Member(NamedTuple):
    """What a threshold must find distinct. `raw`: 32 bytes."""

    principal: str
    raw: bytes
    custodian: str


class TrustRoot(Model):
    """The principals in force. `expires`: UTC; no claim after it. Judged only by `check_trust_root`."""

    law: One
    principals: Seq[Principal]
    thresholds: Thresholds
    expires: Time
    compromised: Seq[Compromise]

    def find_principal(self, identifier: str) -> Principal | None:
        """The principal with exactly this id."""
        return self._by_id.get(identifier)

    def find_spelled(self, identifier: str) -> Principal | None:
        """The principal with this id in any spelling: ids are the same ignoring case."""
        return self._by_folded.get(fold_id(identifier))

    def find_key(self, keyid: str) -> Holder | None:
        """The key with this fingerprint (`SHA256:…`), and who holds it."""
        return self._by_keyid.get(keyid)

    def find_raw(self, raw: str) -> Holder | None:
        """The key with this raw public key (64 hex digits), and who holds it: under another type it is the same key."""
        return self._by_raw.get(raw)

    def members(self, role: Role) -> list[Member]:
        """Each key of each principal that holds `role`."""
        return [
            Member(principal.id, entry.public.raw, principal.custodian)
            for principal in self.principals
            if role in principal.roles
            for entry in principal.keys
        ]

    @cached_property
    def _by_id(self) -> dict[str, Principal]:
        return {principal.id: principal for principal in self.principals}

    @cached_property
    def _by_folded(self) -> dict[str, Principal]:
        return {fold_id(principal.id): principal for principal in self.principals}

    @cached_property
    def _by_keyid(self) -> dict[str, Holder]:
        return {
            enrolled.keyid: Holder(principal, entry, enrolled)
            for principal in self.principals
            for entry in principal.keys
            for enrolled in [EnrolledKey(principal.id, principal.kind, entry.public, entry.user_verification)]
        }

    @cached_property
    def _by_raw(self) -> dict[str, Holder]:
        return {holder.entry.public.raw.hex(): holder for holder in self._by_keyid.values()}


def count_distinct(members: Iterable[Member]) -> int:
    """The size of the largest set of members that differ from each other in principal, raw key and custodian.

    Exact where each principal has one custodian and each raw key one principal, as in every root that
    `check_trust_root` accepts. Members with different custodians then differ in all three, and members with the same
    custodian exclude each other: so it is the number of custodians.
    """
    return len({member.custodian for member in members})


def count_quorum(root: TrustRoot, role: Role, signers: Iterable[Signer]) -> int:
    """How many of `signers`, whose signatures are already verified, count together for `role` in `root`.

    A signer whose principal does not hold the role, or not that key, is not counted. `root`: judged.
    """
    signed = frozenset(signers)
    return count_distinct(member for member in root.members(role) if Signer(member.principal, member.raw) in signed)


def check_trust_root(root: TrustRoot, log_key: bytes) -> None:
    """Prove that a root keeps every rule that needs no history. `log_key`: the log's raw public key, 32 bytes.

    Raises: LawRefused (`bad_trust_root`); SignatureRefused (`bad_key`) for the log key.
    """
    owners: dict[bytes, str] = {check_public(log_key): "the log"}
    ids: set[str] = set()
    for principal in root.principals:
        if fold_id(principal.id) in ids:
            raise _bad(f"the id {principal.id} stands twice, ignoring case")
        ids.add(fold_id(principal.id))
        _check_roles(principal)
        for entry in principal.keys:
            if entry.public.raw in owners:
                raise _bad(f"a key of {principal.id} stands twice; {owners[entry.public.raw]} holds it already")
            owners[entry.public.raw] = principal.id
            _check_key(principal, entry)
    _check_compromised(root, owners)
    thresholds: dict[Role, int] = {"governor": root.thresholds.governors, "operator": root.thresholds.operators}
    for role, needed in thresholds.items():
        found = count_distinct(root.members(role))
        if found < needed:
            raise _bad(f"{needed} {role}s are needed and only {found} with custodians of their own are there")


def check_succession(old: TrustRoot, new: TrustRoot, owners: Mapping[str, str]) -> None:
    """Prove that `new` may follow `old`: no key changes hands, and what was compromised stays so.

    `owners`: raw public key (64 hex digits) to principal id, for every key that any root of this ledger ever held.
    Both roots: judged by `check_trust_root`.

    Raises: LawRefused (`bad_trust_root`).
    """
    known = {bytes.fromhex(raw): owner for raw, owner in owners.items()}
    known |= {bytes(entry.public.raw): principal.id for principal in old.principals for entry in principal.keys}
    for principal in new.principals:
        for entry in principal.keys:
            owner = known.get(entry.public.raw, principal.id)
            if fold_id(owner) != fold_id(principal.id):
                raise _bad(f"a key of {principal.id} belonged to {owner} before; keys are never reassigned")
    positions = {item.public.raw: item.position for item in new.compromised}
    for item in old.compromised:
        position = positions.get(item.public.raw)
        if position is None or position > item.position:
            raise _bad(f"the compromise of {fingerprint(item.public)} at {item.position} is taken back")


def _check_roles(principal: Principal) -> None:
    for role in principal.roles:
        if role in HUMAN_ROLES and principal.kind != "human":
            raise _bad(f"{principal.id} is not a human and cannot be {role}")
        if role in AGENT_ROLES and principal.kind != "agent":
            raise _bad(f"{principal.id} is not an agent and cannot be {role}")


def _check_key(principal: Principal, entry: KeyEntry) -> None:
    if entry.public.type == HARDWARE:
        if principal.kind != "human":
            raise _bad(f"{principal.id} is not a human; its keys must be plain ssh-ed25519")
    elif entry.user_verification:
        raise _bad(f"a key of {principal.id} is asked to verify its user, and only a hardware key can")


def _check_compromised(root: TrustRoot, owners: Mapping[bytes, str]) -> None:
    seen: set[bytes] = set()
    for item in root.compromised:
        raw = item.public.raw
        if raw in seen:
            raise _bad(f"the compromised key {fingerprint(item.public)} stands twice")
        seen.add(raw)
        if raw in owners:
            raise _bad(f"the compromised key {fingerprint(item.public)} is still held by {owners[raw]}")


def _bad(message: str) -> LawRefused:
    return LawRefused("bad_trust_root", message, rule="trust_root")
