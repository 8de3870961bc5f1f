"""What is in force, what was before, and what is proposed: trust roots, policies and fleets as versions of one thing.

A version is named by an entry (the one that said it, or the one that brought it into force) or by its digest's
beginning. Genesis is the first version of trust and policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from executor.render.bounds import FULL
from executor.render.changes import diff_values
from keys.errors import FormatError, Refused, UsageError
from keys.openssh_public import fingerprint
from keys.principals import Role, TrustRoot
from keys.values import format_time
from ledger.record import parse_record
from ledger.statement import parse_statement
from ledger.store import Reader
from policies.fleet import Fleet
from policies.fold.state import ProposalState, State, Vote
from policies.kinds import Genesis, PolicyProposal, TrustProposal
from policies.law.position import parse_predicate
from policies.matrix import CapabilityMatrix

GovernedKind: TypeAlias = Literal["trust", "policy", "fleet"]
Value: TypeAlias = TrustRoot | CapabilityMatrix | Fleet

MIN_DIGITS: Final = 12
"""Hex digits of a digest that name a version; fewer decimal ones name an entry."""


@dataclass(frozen=True, slots=True)
class Version:
    """One trust root, policy or fleet that was said. `digest`: of its statement. `seq`: the entry that says it. `time`:
    of that entry, seconds since 1970. `since`: the entry from which it was in force, None for a proposal. `votes`: the
    cosignatures that counted, or that stand so far. `key`: key id that signed it, where that alone brought it into
    force. `approve_by`: UTC text, None for genesis.
    """

    kind: GovernedKind
    digest: str
    seq: int
    time: int
    by: str
    reason: str
    value: Value
    since: int | None
    votes: tuple[Vote, ...]
    approve_by: str | None
    key: str | None = None


class Need(NamedTuple):
    """A threshold. `title`: whose. `needed`: how many. `members`: principal id -> custodian, of who may count."""

    title: str
    needed: int
    members: dict[str, str]


def role_for(kind: GovernedKind) -> Role:
    """The role that proposes and cosigns such a change."""
    return "operator" if kind == "fleet" else "governor"


def value_in_force(state: State, kind: GovernedKind) -> Value | None:
    """What is in force; None before the first fleet."""
    return {"trust": state.trust, "policy": state.policy, "fleet": state.fleet}[kind]


def digest_in_force(state: State, kind: GovernedKind) -> str:
    """Digest of the statement that brought the present one into force; zeros before the first fleet."""
    return {"trust": state.trust_digest, "policy": state.policy_digest, "fleet": state.fleet_digest}[kind]


def list_versions(state: State, kind: GovernedKind, reader: Reader) -> list[Version]:
    """Every version that was ever in force, the first one first. `state`: verified, of the ledger that `reader` reads.

    Raises: FormatError; CalyxError of the store.
    """
    found = [_version(state, p) for p in state.proposals.values() if p.kind == kind and p.decided_seq is not None]
    if kind != "fleet":
        found.append(_genesis(state, kind, reader))
    return sorted(found, key=lambda version: version.since or 0)


def list_proposals(state: State, kind: GovernedKind) -> list[Version]:
    """Every proposal that never came into force, the newest last; whether it still may is the law's to say."""
    return [_version(state, p) for p in state.proposals.values() if p.kind == kind and p.decided_seq is None]


def find_version(state: State, kind: GovernedKind, name: str, reader: Reader) -> Version:
    """The version or proposal that a person means by an entry's number or by 12 digits or more of a digest.

    Raises: UsageError (`ambiguous_id`); Refused (`unknown_version`).
    """
    every = [*list_versions(state, kind, reader), *list_proposals(state, kind)]
    if name.isascii() and name.isdigit() and len(name) < MIN_DIGITS:
        found = [version for version in every if int(name) in (version.seq, version.since)]
    elif len(name) >= MIN_DIGITS:
        found = [version for version in every if version.digest.startswith(name.lower())]
    else:
        found = []
    if not found:
        raise Refused(
            "unknown_version",
            f"{name} is neither an entry with a {kind} nor 12 digits of one's digest",
            hint=f"calyx {kind} history lists them",
        )
    if len(found) > 1:
        raise UsageError("ambiguous_id", f"{name} names more than one {kind}", hint="give the digits of the digest")
    return found[0]


def find_in_force(state: State, kind: GovernedKind, reader: Reader) -> Version | None:
    """The version in force; None before the first fleet."""
    digest = digest_in_force(state, kind)
    return next((each for each in reversed(list_versions(state, kind, reader)) if each.digest == digest), None)


def list_needs(state: State, kind: GovernedKind, proposed: Value | None) -> list[Need]:
    """Whose cosignatures a proposal needs: of the root in force, and for trust also of the root that it proposes."""
    role = role_for(kind)
    trust = state.trust
    if trust is None:
        return []
    needs = [_need(f"{role}s in force", trust, role)]
    if isinstance(proposed, TrustRoot):
        needs.append(_need("governors proposed", proposed, role))
    return needs


def describe_need(need: Need) -> str:
    """A threshold on one line: how many, and of whom; those under one custodian count once, and so stand together."""
    groups: dict[str, list[str]] = {}
    for principal, custodian in need.members.items():
        groups.setdefault(custodian, []).append(principal)
    names = [" or ".join(group) for group in groups.values()]
    if need.needed == len(names):
        whom = " and ".join(names) if len(names) > 1 else names[0]
        return f"{need.title}: {whom}"
    return f"{need.title}: any {need.needed} of {', '.join(names)}"


def diff_versions(before: Value | None, after: Value | None) -> list[str]:
    """The difference of two values, line by line, escaped; empty when there is none."""
    old, new = (None if value is None else value.to_json() for value in (before, after))
    return list(diff_values(old, new, FULL))


def version_json(state: State, version: Version) -> dict[str, Any]:
    """What is known of a version besides its value, as JSON material."""
    return {
        "kind": version.kind,
        "digest": version.digest,
        "seq": version.seq,
        "timestamp": format_time(version.time),
        "by": version.by,
        "reason": version.reason,
        "approve_by": version.approve_by,
        "in_force_seq": version.since,
        "in_force_at": None if version.since is None else format_time(state.history.time(version.since)),
        "in_force": version.digest == digest_in_force(state, version.kind),
        "keyid": version.key,
        "cosignatures": [
            {
                "seq": vote.seq,
                "by": vote.signer.principal,
                "keyid": vote.signer.keyid,
                "custodian": vote.signer.custodian,
                "timestamp": format_time(vote.time),
            }
            for vote in version.votes
        ],
    }


def known_keys(state: State, reader: Reader) -> dict[str, str]:
    """Key id -> public line of every key that a trust root in force ever held."""
    roots: Iterable[Value] = (version.value for version in list_versions(state, "trust", reader))
    return {
        fingerprint(entry.public): entry.key
        for root in roots
        if isinstance(root, TrustRoot)
        for principal in root.principals
        for entry in principal.keys
    }


def _need(title: str, root: TrustRoot, role: Role) -> Need:
    needed = root.thresholds.operators if role == "operator" else root.thresholds.governors
    return Need(title, needed, {p.id: p.custodian for p in root.principals if role in p.roles})


def _version(state: State, proposal: ProposalState) -> Version:
    said = proposal.proposal
    kind: GovernedKind
    value: Value
    if isinstance(said, TrustProposal):
        kind, value = "trust", said.trust
    elif isinstance(said, PolicyProposal):
        kind, value = "policy", said.policy
    else:
        # The law read the body when it judged the proposal.
        kind, value = "fleet", proposal.fleet or Fleet(targets={})
    decided = proposal.decided_seq
    votes = proposal.ballot.standing()
    if decided is not None:
        votes = [vote for vote in votes if vote.seq in proposal.counted]
    return Version(
        kind=kind,
        digest=proposal.digest,
        seq=proposal.seq,
        time=state.history.time(proposal.seq),
        by=said.by,
        reason=said.reason,
        value=value,
        since=decided,
        votes=tuple(votes),
        approve_by=said.approve_by,
    )


def _genesis(state: State, kind: GovernedKind, reader: Reader) -> Version:
    for data in reader.read(0, 1):
        envelope = parse_record(data).envelope
        statement = parse_statement(envelope.body)
        said = parse_predicate(statement)
        if isinstance(said, Genesis) and state.history.find(statement.digest) == 0:
            value: Value = said.trust if kind == "trust" else said.policy
            return Version(
                kind=kind,
                digest=statement.digest,
                seq=0,
                time=state.history.time(0),
                by=said.by,
                reason="the ledger's first entry",
                value=value,
                since=0,
                votes=(),
                approve_by=None,
                key=envelope.keyid,
            )
    raise FormatError("entry 0 is not the genesis that was verified", code="ledger_corrupt")
