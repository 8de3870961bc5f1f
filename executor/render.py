"""What a human is about to sign, as sections of plain lines: for a terminal, and for a page.

Everything is read from the exact bytes of the statement, and from objects by the digests in it. Text that others wrote
is escaped here, so what shows a rendering needs to know nothing of its sources. A page escapes it once more for HTML.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from executor.bounds import SHORT, Bounds
from executor.escape import escape, escape_lines
from executor.render_changes import describe_change, diff_values
from keys.errors import CalyxError, FormatError
from keys.values import fold_id, format_time, parse_time
from ledger.objects import ObjectStore
from ledger.record import parse_record
from ledger.statement import Statement, parse_statement
from ledger.store import Reader
from ledger.verified import namespace_of
from policies.fleet import Fleet, Instance
from policies.kinds import FleetProposal, Lease, PolicyProposal, TrustProposal
from policies.law.governance import quorum_progress
from policies.law.position import parse_predicate
from policies.matrix import Gate
from policies.state import Ballot, LeaseState, ProposalState, State
from policies.two_key import examine_lease

MAX_NAMES: Final = 20
MAX_PATHS: Final = 200
MAX_ROWS: Final = 40


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its lines, escaped. `rows`: labels and values. `lines`: as they are, such as a diff."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendering:
    """A statement for a person. `digest`: of its exact bytes; a signature on anything else is not on this."""

    title: str
    digest: str
    sections: tuple[Section, ...]


def read_statement(reader: Reader, seq: int, digest: str) -> Statement:
    """The statement of an entry, from the ledger's bytes, proved to be the one with this digest.

    Raises: FormatError; CalyxError of the store.
    """
    for data in reader.read(seq, seq + 1):
        statement = parse_statement(parse_record(data).envelope.body)
        if statement.digest == digest:
            return statement
    raise FormatError(f"entry {seq} is not the statement {digest[:16]}", code="ledger_corrupt")


def render_lease(
    state: State, lease: LeaseState, statement: Statement, objects: ObjectStore, now: int, bounds: Bounds = SHORT
) -> Rendering:
    """A lease, from its statement's bytes. `state`: verified, holds the lease. `now`: seconds since 1970."""
    asked = parse_predicate(statement)
    if not isinstance(asked, Lease):
        raise FormatError(f"{statement.digest[:16]} is of the kind {statement.kind}, not a lease")
    fleet = state.fleets.get(asked.fleet)
    sections = (
        _request(state, asked, lease),
        _instances(asked, lease, fleet),
        *_changes(lease, objects),
        _terms(asked),
        _windows(asked, now),
        _runs(state, asked, lease, fleet),
        _said(lease),
        _steps(state, lease, now),
    )
    return Rendering(f"Lease {escape(asked.id)} on {escape(asked.target)}", statement.digest, sections)


def render_proposal(state: State, proposal: ProposalState, statement: Statement, bounds: Bounds = SHORT) -> Rendering:
    """A proposal of trust, policy or fleet, as its difference from what is in force."""
    asked = parse_predicate(statement)
    if isinstance(asked, TrustProposal):
        old, new = state.trust, asked.trust
        lines = diff_values(None if old is None else old.to_json(), new.to_json())
    elif isinstance(asked, PolicyProposal):
        lines = diff_values(None if state.policy is None else state.policy.to_json(), asked.policy.to_json())
    elif isinstance(asked, FleetProposal):
        body = proposal.fleet or Fleet.from_json({"targets": {}})
        lines = diff_values(None if state.fleet is None else state.fleet.to_json(), body.to_json())
    else:
        raise FormatError(f"{statement.digest[:16]} is of the kind {statement.kind}, not such a proposal")
    decided = proposal.decided_seq
    rows = (
        ("asked by", escape(statement.by)),
        ("in entry", str(proposal.seq)),
        *(("reason", line) for line in _text(asked.reason)),
        ("approve until", asked.approve_by),
        ("in force", "no" if decided is None else f"since entry {decided}"),
    )
    progress = tuple((name, f"{found} of {needed}") for name, found, needed in quorum_progress(state, proposal))
    sections = (
        Section("Proposal", rows),
        Section(f"Change of the {proposal.kind} in force", lines=lines or ("no difference",)),
        Section("Votes", (*_votes(proposal.ballot), *progress)),
    )
    return Rendering(f"Proposal of {proposal.kind} {statement.digest[:12]}", statement.digest, sections)


def render_own(statement: Statement, keyid: str | None) -> Section:
    """The statement that the person signs, field by field, from its bytes. `keyid`: None while no key was chosen."""
    fields = statement.predicate
    rows = [
        ("kind", statement.kind),
        ("about", f"{escape(statement.subject_name)}, statement {statement.subject_digest}"),
        ("as", f"{escape(statement.by)}{', ' + escape(str(fields['role'])) if 'role' in fields else ''}"),
        ("key", "any of yours that is enrolled" if keyid is None else escape(keyid)),
        ("namespace", namespace_of(statement.kind)),
        ("ledger", statement.ledger),
        ("having seen", f"{statement.head.size} entries, {statement.head.hash}"),
        ("made at", format_time(statement.made_at)),
        ("its digest", statement.digest),
    ]
    return Section("You sign", tuple(rows))


def format_rendering(rendering: Rendering) -> list[str]:
    """The rendering as lines of plain text."""
    lines = [rendering.title, f"  statement {rendering.digest}"]
    for section in rendering.sections:
        lines += ["", *format_section(section)]
    return lines


def format_section(section: Section) -> list[str]:
    """One section as lines of plain text."""
    width = max((len(label) for label, _ in section.rows), default=0)
    rows = [f"  {label.ljust(width)}  {value}" for label, value in section.rows]
    return [section.title, *rows, *(f"  {line}" for line in section.lines)]


def shown_names(names: Iterable[str]) -> str:
    """Instance names, the first of them when they are many."""
    every = list(names)
    rest = f" and {len(every) - MAX_NAMES} more" if len(every) > MAX_NAMES else ""
    return f"{len(every)}: {escape(', '.join(every[:MAX_NAMES]))}{rest}"


def shown_gate(gate: Gate) -> str:
    """A gate's terms on one line."""
    against = {"absolute": "", "baseline": " from before the first tier", "rest": " from the rest of the fleet"}
    moved = "" if gate.against == "absolute" else " away"
    absolute = "" if gate.absolute is None else f", or {gate.breach} {gate.absolute} where that is not known"
    return (
        f"{gate.breach} {gate.limit}{moved}{against[gate.against]} for {gate.for_s} s{absolute}; "
        f"{gate.min_samples} samples, no value for {gate.missing_s} s halts"
    )


def _request(state: State, asked: Lease, lease: LeaseState) -> Section:
    intent = state.intents.get(fold_id(asked.intent))
    rows = [
        ("asked by", f"{escape(lease.proposer.principal)} in entry {lease.seq}, {format_time(lease.time)}"),
        ("intent", escape(asked.intent)),
        ("rule", "two keys" if asked.rule == "two_key" else "BREAK-GLASS: two humans, no agent"),
        ("reason", escape(asked.reason) if asked.reason is not None else "none"),
    ]
    if intent is not None:
        rows += [(label, line) for label, text in (("what", intent.what), ("why", intent.why)) for line in _text(text)]
    return Section("Request", tuple(rows))


def _text(text: str) -> list[str]:
    lines = escape_lines(text)
    return [*lines[:MAX_ROWS], *_left(len(lines), MAX_ROWS, "lines")]


def _left(count: int, limit: int, what: str) -> tuple[str, ...]:
    """Whoever signs is told that there is more than is shown."""
    return (f"and {count - limit} more {what}",) if count > limit else ()


def _instances(asked: Lease, lease: LeaseState, fleet: Fleet | None) -> Section:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, before in lease.before.items():
        groups.setdefault((before, lease.after[name]), []).append(name)
    rows = [(f"{before[:12]} to {after[:12]}", shown_names(names)) for (before, after), names in groups.items()]
    target = None if fleet is None else fleet.targets.get(asked.target)
    if target is not None:
        places = [i for i in target.instances if i.name in lease.after]
        rows += [(i.name, escape(f"{i.address} {i.root}")) for i in places[:MAX_NAMES]]
        rows += [("", left) for left in _left(len(places), MAX_NAMES, "instances")]
    return Section(f"Instances of {escape(asked.target)}", tuple((escape(label), value) for label, value in rows))


def _changes(lease: LeaseState, objects: ObjectStore) -> list[Section]:
    pairs = dict.fromkeys((lease.before[name], lease.after[name]) for name in lease.after)
    signed = (*map(escape, lease.paths[:MAX_PATHS]), *_left(len(lease.paths), MAX_PATHS, "paths"))
    sections = [Section("Changed paths, as signed", lines=signed)]
    for before, after in list(pairs)[:4]:
        title = f"Difference {before[:12]} to {after[:12]}"
        try:
            paths, lines = describe_change(before, after, objects)
        except CalyxError as error:
            sections.append(Section(title, lines=(f"cannot be shown: {error.code}: {escape(error.message)}",)))
            continue
        surplus = sorted(set(paths) - set(lease.paths))
        warning = [f"WARNING: {escape(path)} changes and is not in the signed list" for path in surplus[:MAX_NAMES]]
        warning += _left(len(surplus), MAX_NAMES, "such paths")
        sections.append(Section(title, lines=(*warning, *lines)))
    if len(pairs) > 4:
        sections.append(Section(f"{len(pairs) - 4} more pairs of trees are not shown"))
    return sections


def _terms(asked: Lease) -> Section:
    rows = [
        ("tiers", ", ".join(f"{tier} %" for tier in asked.tiers)),
        ("bake", f"{asked.bake_s} s a tier, a sample every {asked.interval_s} s"),
        ("start", "by itself" if asked.start == "auto" else "waits for calyx start"),
        ("promotion", "by itself" if asked.promotion == "auto" else "waits for calyx promote"),
        *((f"gate {escape(gate.name)}", shown_gate(gate)) for gate in asked.gates),
    ]
    return Section("Terms", tuple(rows))


def _windows(asked: Lease, now: int) -> Section:
    rows = [("now", format_time(now))]
    for label in ("not_before", "approve_by", "execute_by", "complete_by"):
        text = str(getattr(asked, label))
        rows.append((label.replace("_", " "), f"{text} ({shown_distance(parse_time(text) - now)})"))
    return Section("Windows", tuple(rows))


def shown_distance(seconds: int) -> str:
    """How far away a time is, in words."""
    if not seconds:
        return "now"
    distance = abs(seconds)
    if distance >= 2 * 86_400:
        text = f"{distance // 86_400} days"
    elif distance >= 7200:
        text = f"{distance // 3600} h {distance % 3600 // 60} min"
    elif distance >= 120:
        text = f"{distance // 60} min"
    else:
        text = f"{distance} s"
    return f"in {text}" if seconds > 0 else f"{text} ago"


def _runs(state: State, asked: Lease, lease: LeaseState, fleet: Fleet | None) -> Section:
    rows: dict[tuple[str, str], None] = {}
    target = None if fleet is None else fleet.targets.get(asked.target)
    for instance in [] if target is None else target.instances:
        if instance.name in lease.after:
            rows.update(dict.fromkeys(_commands(instance)))
    policy = state.policies.get(asked.policy)
    hooks = {} if policy is None else policy.deploy_production.hooks
    named = [hook for hook in (asked.hooks.drain, asked.hooks.undrain) if hook is not None]
    for hook in named:
        rows[f"hook {escape(hook)}", _argv(hooks[hook].argv) if hook in hooks else "unknown to the policy"] = None
    shown = [*list(rows)[:MAX_ROWS], *(("", left) for left in _left(len(rows), MAX_ROWS, "commands"))]
    return Section("What it runs", tuple(shown) or (("nothing", "no process, command or hook"),))


def _commands(instance: Instance) -> list[tuple[str, str]]:
    rows = []
    if instance.process is not None:
        user = "" if instance.process.user is None else f" as {escape(instance.process.user)}"
        rows.append(("process" + user, _argv(instance.process.argv)))
    if instance.reload.kind == "command":
        rows.append(("reload", _argv(instance.reload.argv)))
    hooks = (instance.hooks.drain, instance.hooks.undrain)
    rows += [("fleet's hook", escape(hook)) for hook in hooks if hook is not None]
    if instance.probe is not None:
        rows.append(("probe", f"GET {escape(instance.probe.url)}"))
    return rows


def _argv(argv: Iterable[str]) -> str:
    from shlex import join

    return escape(join(argv))


def _said(lease: LeaseState) -> Section:
    rows = [
        (
            escape(note.signer.principal),
            f"review, {note.review.verdict}, entry {note.seq}: {escape(note.review.summary)}",
        )
        for note in lease.reviews.values()
    ]
    rows += _votes(lease.ballot)
    if lease.denied is not None:
        rows.append((escape(lease.denied.principal), f"DENIED it in entry {lease.denied.seq}"))
    return Section("Said so far", tuple(rows) or (("nobody", "has said anything yet"),))


def _votes(ballot: Ballot) -> list[tuple[str, str]]:
    return [
        (
            escape(vote.signer.principal),
            f"cosigned as {vote.role}, entry {vote.seq}{', withdrawn' if ballot.withdrawn(vote) else ''}",
        )
        for vote in ballot.votes
    ]


def _steps(state: State, lease: LeaseState, now: int) -> Section:
    lines = (
        f"{step.number} {'ok' if step.ok else 'open'}  {step.title}: {escape(step.text)}"
        for step in examine_lease(state, lease.digest, now)
    )
    return Section("Two-key rule now", lines=tuple(lines))
