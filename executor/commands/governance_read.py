"""What `calyx trust`, `policy` and `fleet` share in reading: show, diff and history of what is in force and was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.commands.common import check_begun, opened
from executor.commands.governance_show import show_value
from executor.commands.terminal import say, say_json, say_theirs, write_out
from keys.errors import Refused, UsageError

if TYPE_CHECKING:
    from executor.proposals.governance import GovernedKind, Version
    from ledger.store import Reader
    from policies.fold.state import State
    from policies.law.taint import Taint


def show_version(kind: GovernedKind, home: str | None, name: str | None, *, as_json: bool, as_yaml: bool) -> None:
    """Print what is in force, or the version that is named.

    Raises: UsageError (`two_forms`); Refused (`no_fleet`, `unknown_version`).
    """
    if as_json and as_yaml:
        raise UsageError("two_forms", "--json and --yaml exclude each other", hint="give one of them")
    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        version = _find(state, kind, name, place.open_store())
    if as_json:
        say_json(version.value.to_json())
    elif as_yaml:
        write_out(_as_yaml(version))
    else:
        _say_head(state, version)
        show_value(version.value)


def diff_versions(
    kind: GovernedKind, home: str | None, first: str | None, second: str | None, *, as_json: bool
) -> None:
    """Print how a proposal differs from what is in force, or one version from another.

    Raises: Refused (`no_proposal`, `unknown_version`).
    """
    from executor.escape import escape
    from executor.proposals.governance import diff_versions as compare
    from executor.proposals.governance import find_in_force, list_proposals
    from executor.render.trust import describe_trust
    from keys.principals import TrustRoot

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        reader = place.open_store()
        if second is not None:
            before: Version | None = _find(state, kind, first, reader)
            after = _find(state, kind, second, reader)
        else:
            before = find_in_force(state, kind, reader)
            proposals = list_proposals(state, kind)
            if first is None and not proposals:
                raise Refused(
                    "no_proposal", f"no {kind} is proposed", hint=f"calyx {kind} history lists what may be compared"
                )
            after = proposals[-1] if first is None else _find(state, kind, first, reader)
            if before is not None and after.since is not None:
                # An older version leads to the one in force, not the other way round.
                before, after = after, before
    old = None if before is None else before.value
    lines = compare(old, after.value)
    meant = (
        describe_trust(old, after.value) if isinstance(old, TrustRoot) and isinstance(after.value, TrustRoot) else []
    )
    if as_json:
        sides = {
            "before": None if before is None else _metadata(state, before),
            "after": _metadata(state, after),
        }
        say_json({**sides, "meaning": meant, "difference": lines})
        return
    say_theirs(f"--- {_title(before)}" if before is not None else "--- nothing", f"+++ {_title(after)}")
    say_theirs(*map(escape, meant), *lines) if lines else say_theirs("no difference")


def show_history(kind: GovernedKind, home: str | None, *, as_json: bool) -> None:
    """Print every version that was in force: since when, by whom, with which keys, and what is tainted by now."""
    from executor.proposals.governance import list_versions
    from policies.law.taint import find_tainted

    with opened(home) as place:
        state = check_begun(place.open_replay().sync())
        versions = list_versions(state, kind, place.open_store())
    taints = [] if state.trust is None else find_tainted(state, state.trust)
    if kind != "trust":
        taints = [taint for taint in taints if taint.kind == kind]
    if as_json:
        say_json([_history_json(state, version, taints) for version in versions])
        return
    for version in versions:
        _say_version(state, version)
        _say_compromises(version)
        say_theirs(
            *(f"  TAINTED   counted entry {t.entry}, by {t.keyid}" for t in taints if t.digest == version.digest)
        )
    if kind == "trust" and taints:
        say_theirs("", "Tainted by keys that are revoked as compromised")
        say_theirs(*(f"  {taint.text}" for taint in taints))


def _find(state: State, kind: GovernedKind, name: str | None, reader: Reader) -> Version:
    from executor.proposals.governance import find_in_force, find_version

    if name is not None:
        return find_version(state, kind, name, reader)
    found = find_in_force(state, kind, reader)
    if found is None:
        raise Refused(f"no_{kind}", f"no {kind} is in force yet", hint=f"calyx {kind} propose FILE --approve")
    return found


def _as_yaml(version: Version) -> str:
    from executor.proposals.documents import format_document
    from keys.openssh_public import fingerprint, parse_public
    from policies.yaml_file import MAX_CHARACTERS

    def comment(place: tuple[str, ...], value: Any) -> str | None:
        # Keys are named by their fingerprints everywhere else.
        holds_key = len(place) > 1 and place[-2] in {"keys", "compromised"} and version.kind == "trust"
        return fingerprint(parse_public(value["key"])) if holds_key else None

    head = (
        f"# The {version.kind} of entry {version.seq}, statement {version.digest}.\n"
        f"# To change it: edit this, then calyx {version.kind} propose FILE\n"
    )
    text = head + format_document(version.value.to_json(), comment)
    if len(text) > MAX_CHARACTERS:
        raise Refused(
            "too_large", f"as YAML it is over {MAX_CHARACTERS} characters, more than is read back", hint="use --json"
        )
    return text


def _title(version: Version) -> str:
    where = "proposed" if version.since is None else f"in force from entry {version.since}"
    return f"{version.kind} {version.digest[:12]}, entry {version.seq}, {where}"


def _say_head(state: State, version: Version) -> None:
    from executor.proposals.governance import digest_in_force
    from policies.law.governance import quorum_progress

    say_theirs(_title(version))
    if version.since is None:
        said = state.proposals[version.digest]
        void = said.proposal.base != digest_in_force(state, version.kind)
        say_theirs(
            f"  asked by  {version.by}, {version.reason}", f"  until     {version.approve_by}{', void' if void else ''}"
        )
        say_theirs(*(f"  {name}: {found} of {needed}" for name, found, needed in quorum_progress(state, said)))
    say("")


def _say_version(state: State, version: Version) -> None:
    from executor.proposals.governance import digest_in_force
    from keys.values import format_time

    now = ", in force" if version.digest == digest_in_force(state, version.kind) else ""
    at = format_time(state.history.time(version.since or 0))
    say_theirs(
        f"From entry {version.since}, {at}: {version.kind} {version.digest[:12]}{now}",
        f"  proposed  entry {version.seq}, by {version.by}: {version.reason}",
    )
    if version.key is not None:
        say_theirs(f"  signed    entry {version.seq}, {version.by}, {version.key}")
    say_theirs(*(f"  cosigned  entry {v.seq}, {v.signer.principal}, {v.signer.keyid}" for v in version.votes))


def _say_compromises(version: Version) -> None:
    from keys.openssh_public import fingerprint
    from keys.principals import TrustRoot

    if isinstance(version.value, TrustRoot):
        say_theirs(
            *(
                f"  revoked   {fingerprint(item.public)} as compromised from entry {item.position} on"
                for item in version.value.compromised
            )
        )


def _metadata(state: State, version: Version) -> dict[str, Any]:
    from executor.proposals.governance import version_json

    return version_json(state, version)


def _history_json(state: State, version: Version, taints: list[Taint]) -> dict[str, Any]:
    from executor.proposals.governance import version_json
    from keys.openssh_public import fingerprint
    from keys.principals import TrustRoot

    value = version.value
    revoked = value.compromised if isinstance(value, TrustRoot) else ()
    # For trust the newest version lists everything that its compromised keys had a part in.
    all_of_them = version.kind == "trust" and version.since is not None and version.digest == state.trust_digest
    return {
        **version_json(state, version),
        "compromised": [{"keyid": fingerprint(item.public), "seq": item.position} for item in revoked],
        "tainted": [_taint_json(taint) for taint in taints if all_of_them or taint.digest == version.digest],
    }


def _taint_json(taint: Taint) -> dict[str, Any]:
    return {
        "kind": taint.kind,
        "lease_id": taint.name if taint.kind == "deployment" else None,
        "digest": taint.digest,
        "seq": taint.entry,
        "keyid": taint.keyid,
        "counted_seq": taint.counted_at,
        "live": taint.live,
    }
