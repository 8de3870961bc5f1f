"""What a lease asks: who, why, where, what changes, on which terms, until when, and what it will run."""

from __future__ import annotations

from collections.abc import Mapping

from executor.escape import escape
from executor.render.bounds import Bounds
from executor.render.changes import describe_change
from executor.render.text import (
    Row,
    Section,
    count_left,
    optional_rows,
    shown_argv,
    shown_distance,
    shown_gate,
    shown_names,
    text_rows,
)
from keys.errors import CalyxError
from keys.values import fold_id, format_time, parse_time
from keys.words import are, counted
from ledger.objects import ObjectRef, ObjectStore
from policies.fleet import Fleet, Hooks, Instance, Probe
from policies.fold.state import LeaseState, State
from policies.kinds import Lease
from policies.matrix import Hook


def lease_sections(
    state: State, asked: Lease, lease: LeaseState, objects: ObjectStore, now: int, bounds: Bounds
) -> list[Section]:
    """The sections of what is asked, in the order of a person's questions."""
    fleet = state.fleets.get(asked.fleet)
    return [
        _request(state, asked, lease, bounds),
        _instances(asked, lease, fleet, bounds),
        *_changes(asked, lease, objects, bounds),
        _terms(asked),
        _windows(asked, now),
        _runs(state, asked, lease, fleet, bounds),
    ]


def loud_lines(state: State, asked: Lease) -> tuple[str, ...]:
    """What must be read first: that a lease does without an agent's key."""
    if asked.rule != "break_glass":
        return ()
    policy = state.policies.get(asked.policy)
    within = "" if policy is None else f" within {policy.deploy_production.break_glass.review_within_s // 60} min"
    return (
        "BREAK-GLASS: no agent has to agree. Two people answer for it, and you are one of them.",
        f"A review is owed{within} after the claim; while it is overdue, no other lease can be claimed.",
    )


def bound_rows(asked: Lease) -> list[Row]:
    """What else the proposer's signature binds: by digest, or of no weight to a person."""
    rows = [
        ("artifact", f"{asked.artifact.type}, SHA-256 {asked.artifact.sha256}, {counted(asked.artifact.size, 'byte')}"),
        ("policy", asked.policy),
        ("fleet", asked.fleet),
    ]
    if isinstance(asked.paths, ObjectRef):
        rows.append(("paths in", _object(asked.paths)))
    for number, change in enumerate(asked.changes, 1):
        if isinstance(change.instances, ObjectRef):
            rows.append((f"instances {number} in", _object(change.instances)))
    return rows


def _object(ref: ObjectRef) -> str:
    return f"object {ref.sha256}, {counted(ref.size, 'byte')}"


def _request(state: State, asked: Lease, lease: LeaseState, bounds: Bounds) -> Section:
    intent = state.intents.get(fold_id(asked.intent))
    rows = [
        ("asked by", f"{escape(asked.by)} in entry {lease.seq}, {format_time(lease.time)}"),
        ("lease", escape(asked.id)),
        ("intent", escape(asked.intent)),
        ("capability", escape(asked.capability)),
        ("rule", "two keys" if asked.rule == "two_key" else "BREAK-GLASS: two humans, no agent"),
        *optional_rows("reason", asked.reason, bounds),
    ]
    if intent is not None:
        rows += text_rows("what", intent.what, bounds) + text_rows("why", intent.why, bounds)
    return Section("Request", tuple(rows))


def _instances(asked: Lease, lease: LeaseState, fleet: Fleet | None, bounds: Bounds) -> Section:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, before in lease.before.items():
        groups.setdefault((before, lease.after[name]), []).append(name)
    rows: list[Row] = []
    for (before, after), names in groups.items():
        rows += [("from", before), ("to", after), ("on", shown_names(names, bounds))]
    target = None if fleet is None else fleet.targets.get(asked.target)
    if target is not None:
        places = [i for i in target.instances if i.name in lease.after]
        rows += [(escape(i.name), escape(f"{i.address} {i.root}")) for i in places[: bounds.names]]
        rows += [("", left) for left in count_left(len(places), bounds.names, "instance", bounds)]
    return Section(f"Instances of {escape(asked.target)}", tuple(rows))


def _changes(asked: Lease, lease: LeaseState, objects: ObjectStore, bounds: Bounds) -> list[Section]:
    pairs = list(dict.fromkeys((change.before, change.after) for change in asked.changes))
    signed = [f"- {escape(path)}" for path in lease.paths[: bounds.paths]]
    signed += count_left(len(lease.paths), bounds.paths, "path", bounds)
    sections = [Section("Changed paths, as signed", lines=tuple(signed))]
    for before, after in pairs[: bounds.pairs]:
        title = f"Difference {before[:12]} to {after[:12]}"
        try:
            paths, lines = describe_change(before, after, objects, bounds)
        except CalyxError as error:
            why = f"{error.code}: {escape(error.message)}"
            sections.append(Section(title, lines=(f"cannot be shown: {why}",), unseen=why))
            continue
        surplus = sorted(set(paths) - set(lease.paths))
        warning = [f"WARNING: not in the signed list, and it changes: {escape(path)}" for path in surplus]
        warning = [*warning[: bounds.names], *count_left(len(surplus), bounds.names, "such path", bounds)]
        sections.append(Section(title, lines=(*warning, *lines)))
    left = len(pairs) - bounds.pairs
    if left > 0:
        sections.append(Section(f"{counted(left, 'more pair')} of trees {are(left)} not shown; {bounds.more}"))
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


def _runs(state: State, asked: Lease, lease: LeaseState, fleet: Fleet | None, bounds: Bounds) -> Section:
    rows: dict[Row, None] = {}
    target = None if fleet is None else fleet.targets.get(asked.target)
    policy = state.policies.get(asked.policy)
    hooks = {} if policy is None else policy.deploy_production.hooks
    rows.update(dict.fromkeys(_hooks("", asked.hooks, hooks)))
    for instance in [] if target is None else target.instances:
        if instance.name in lease.after:
            rows.update(dict.fromkeys(_commands(instance, hooks)))
    shown = [
        *list(rows)[: bounds.rows],
        *(("", left) for left in count_left(len(rows), bounds.rows, "command", bounds)),
    ]
    return Section("What it runs", tuple(shown) or (("nothing", "no process, command or hook"),))


def _hooks(whose: str, named: Hooks, known: Mapping[str, Hook]) -> list[Row]:
    """Commands of hooks. A lease's hook runs in place of the fleet's."""
    rows: list[Row] = []
    for label, hook in (("drain", named.drain), ("undrain", named.undrain)):
        if hook is not None:
            argv = shown_argv(known[hook].argv) if hook in known else "unknown to the policy"
            rows.append((f"{whose}{label} hook {escape(hook)}", argv))
    return rows


def _probe(probe: Probe, known: Mapping[str, Hook]) -> list[Row]:
    rows: list[Row] = []
    if probe.url is not None:
        rows.append(("probe", f"GET {escape(probe.url)} must answer {probe.status}"))
    if probe.hook is not None:
        argv = shown_argv(known[probe.hook].argv) if probe.hook in known else "unknown to the policy"
        rows.append((f"probe's hook {escape(probe.hook)}", argv))
    return rows


def _commands(instance: Instance, hooks: Mapping[str, Hook]) -> list[Row]:
    rows: list[Row] = []
    if instance.process is not None:
        user = "" if instance.process.user is None else f" as {escape(instance.process.user)}"
        rows.append(("process" + user, shown_argv(instance.process.argv)))
        rows += [("  with", shown_argv([f"{name}={value}"])) for name, value in sorted(instance.process.env.items())]
    if instance.reload.kind == "command":
        rows.append(("reload", shown_argv(instance.reload.argv)))
    rows += _hooks("fleet's ", instance.hooks, hooks)
    if instance.probe is not None:
        rows += _probe(instance.probe, hooks)
    if instance.metrics.counters is not None:
        rows.append(("counters", f"GET {escape(instance.metrics.counters.url)}"))
    asked = instance.metrics.prometheus
    if asked is not None:
        rows.append(("prometheus", f"GET {escape(asked.url)}"))
        queries = {"requests": asked.requests, "errors": asked.errors, "cpu": asked.cpu, "memory": asked.memory}
        rows += [(f"  {name}", escape(query)) for name, query in queries.items() if query is not None]
    return rows
