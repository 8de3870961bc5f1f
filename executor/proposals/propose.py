"""Planning a lease: which trees the instances have and would get, which paths change, and on which terms.

bases      what each instance runs now, or will run (`executor.proposals.bases`)
plan       the trees after, from a directory or by a patch; instances grouped by their pair; the changed paths
terms      the policy's, or stricter ones that a person asked for
check      step 2 of the two-key rule on the finished lease, so that nobody is asked to sign what cannot pass
"""

from __future__ import annotations

import tempfile
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, cast

from executor.hosts.host import Hosts
from executor.proposals.bases import see_trees
from executor.trees.archive import ingest_archive
from executor.trees.patch import plan_patch
from executor.trees.scan import ingest
from executor.trees.tree import Tree, changed_paths, make_tree
from keys.errors import CalyxError, LawRefused, Refused, Unavailable, UsageError
from keys.principals import count_distinct
from keys.values import fold_id, format_time
from keys.words import counted
from ledger.objects import ObjectRef, ObjectStore
from ledger.statement import Statement
from policies.fleet import Target
from policies.fold.state import LeaseState, SignerRef, State
from policies.kinds import ABSENT, MAX_GROUPS, Artifact, Lease
from policies.law.case import trust_of
from policies.law.position import parse_predicate
from policies.law.two_key import examine_lease
from policies.matrix import DeployProduction
from policies.names import list_json

HOUR: Final = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """On which terms a person asks for a change. `valid_s`: seconds in which it can be approved; for break-glass also
    those in which it can be executed. `break_glass`: the reason for asking two humans instead of a human and an agent.
    `until`: seconds since 1970 until which at least it can be executed, for break-glass not. None: as the policy says.
    """

    target: str
    what: str
    why: str
    lease_id: str | None = None
    tiers: tuple[int, ...] | None = None
    bake_s: int | None = None
    start: Literal["auto", "command"] | None = None
    promotion: Literal["auto", "manual"] | None = None
    valid_s: int | None = None
    break_glass: str | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish(Asked):
    """What a person asks for. `source`: the directory, the patch or the archive."""

    kind: Literal["directory", "patch", "archive"]
    source: Path


@dataclass(frozen=True, slots=True)
class Planned:
    """A change, worked out. `groups`: (tree before, tree after) -> instance names, in the fleet's order. `settled`:
    instances that have the tree after already. `archive`: the SHA-256 of the archive that the tree was read from.
    """

    artifact: Artifact
    groups: dict[tuple[str, str], list[str]]
    paths: tuple[str, ...]
    settled: tuple[str, ...]
    archive: str | None = None


def plan_change(
    wish: Wish, target: Target, hosts: Hosts, objects: ObjectStore, promised: Mapping[str, str] | None = None
) -> Planned:
    """Look at every instance and work out the change; artifact, trees and files are objects on return. `promised`: as
    `executor.proposals.bases.see_trees` has it.

    Raises: UsageError (`source_missing`); Refused (`no_change`, `too_many_groups`, `shared_differ`); Unavailable of a
    host; CalyxError of a tree or patch.
    """
    befores = see_trees(target.instances, hosts, objects, promised or {})
    archive = None
    if wish.kind == "archive":
        tree, archive = ingest_archive(wish.source, objects, _shared(target))
        artifact, afters = _whole(tree, target)
    elif wish.kind == "directory":
        artifact, afters = _from_directory(wish.source, target, objects)
    else:
        if not wish.source.is_file():
            raise UsageError("source_missing", f"{wish.source} is not a file")
        artifact, afters = lead_by_patch(objects.put_file(wish.source), target, befores, objects)
    return group_change(wish.target, befores, artifact, afters, archive)


def group_change(
    target: str,
    befores: Mapping[str, Tree | None],
    artifact: Artifact,
    afters: Mapping[str, Tree],
    archive: str | None = None,
) -> Planned:
    """The change from some trees to others, by instance name. Raises: Refused (`no_change`, `too_many_groups`)."""
    groups: dict[tuple[str, str], list[str]] = {}
    paths: set[str] = set()
    settled = []
    for name, before in befores.items():
        after = afters[name]
        pair = (before.digest if before else ABSENT, after.digest)
        if pair[0] == pair[1]:
            settled.append(name)
            continue
        if pair not in groups:
            paths.update(changed_paths(before, after))
        groups.setdefault(pair, []).append(name)
    if not groups:
        raise Refused("no_change", f"every instance of {target} has this tree already")
    if len(groups) > MAX_GROUPS:
        raise Refused(
            "too_many_groups",
            f"the instances of {target} are in {counted(len(groups), 'group')} by tree, "
            f"and a lease has {MAX_GROUPS} at most",
            hint="bring some of them to one tree first, as a target of their own",
        )
    return Planned(artifact, groups, tuple(sorted(paths, key=str.encode)), tuple(settled), archive)


def lead_by_patch(
    ref: ObjectRef, target: Target, befores: Mapping[str, Tree | None], objects: ObjectStore
) -> tuple[Artifact, dict[str, Tree]]:
    """The patch as an artifact, and the tree that it leads each instance to. Raises: as
    `executor.trees.patch.plan_patch`.
    """
    patch = objects.get(ref)
    made: dict[tuple[str, frozenset[str]], Tree] = {}
    afters = {}
    for instance in target.instances:
        before, shared = befores[instance.name], frozenset(instance.shared)
        key = (before.digest if before else ABSENT, shared)
        if key not in made:
            with tempfile.TemporaryDirectory(prefix="calyx-propose-") as scratch:
                start = before if before is not None else make_tree(())
                try:
                    made[key] = plan_patch(start, objects, patch, Path(scratch), shared)
                except CalyxError as error:
                    if error.code != "patch_failed":
                        raise
                    raise _failed_on(instance.name, before, error) from None
        afters[instance.name] = made[key]
    return Artifact(type="patch", sha256=ref.sha256, size=ref.size), afters


def _failed_on(name: str, before: Tree | None, error: CalyxError) -> CalyxError:
    """The refusal of a patch with the instance that it met: the others may well run what it starts from."""
    runs = "where nothing is deployed yet" if before is None else f"which runs {before.digest[:12]}"
    hint = "bring it to the others' tree first, with --dir" if before is None else "make it against what runs there"
    return CalyxError("patch_failed", f"{error.message}, on {name}, {runs}", hint=hint, **error.fields)


def lease_fields(wish: Asked, planned: Planned, state: State, objects: ObjectStore, now: int) -> dict[str, Any]:
    """The lease's predicate without the common fields. `state`: has a policy and a fleet. `now`: seconds since 1970."""
    terms = _terms(state)
    tiers = list(wish.tiers or terms.tiers)
    bake_s = wish.bake_s or terms.bake_s
    glass = wish.break_glass is not None
    valid_s = wish.valid_s or (terms.break_glass.max_validity_s if glass else HOUR)
    approve_by = now + valid_s
    execute_by = approve_by if glass else max(approve_by + HOUR, wish.until or 0)
    return {
        "id": wish.lease_id or free_lease_id(state, now),
        "intent": free_intent_id(state, now),
        "capability": "deploy_production",
        "target": wish.target,
        "fleet": state.fleet_digest,
        "policy": state.policy_digest,
        "rule": "break_glass" if glass else "two_key",
        "artifact": planned.artifact.to_json(),
        "changes": [
            {"before": before, "after": after, "instances": list_json(names, objects, len(planned.groups))}
            for (before, after), names in planned.groups.items()
        ],
        "paths": list_json(planned.paths, objects),
        "not_before": format_time(now),
        "approve_by": format_time(approve_by),
        "execute_by": format_time(execute_by),
        "complete_by": format_time(execute_by + len(tiers) * bake_s * 4 + HOUR),
        "tiers": tiers,
        "bake_s": bake_s,
        "interval_s": terms.interval_s,
        "gates": [gate.to_json() for gate in terms.gates],
        "start": wish.start or terms.start,
        "promotion": wish.promotion or terms.promotion,
        "hooks": {"drain": None, "undrain": None},
        "reason": wish.break_glass,
    }


def check_terms(state: State, statement: Statement, planned: Planned, proposer: SignerRef, now: int) -> None:
    """Prove that a lease, not in the ledger yet, would pass step 2 of the two-key rule: policy, fleet, paths, terms;
    and for break-glass that the trust root in force has the two approvers whom it needs.

    Raises: LawRefused with the step's code; FormatError.
    """
    lease = parse_predicate(statement)
    if not isinstance(lease, Lease):
        raise TypeError("not a lease")
    before = {name: pair[0] for pair, names in planned.groups.items() for name in names}
    after = {name: pair[1] for pair, names in planned.groups.items() for name in names}
    asked = LeaseState(statement.digest, state.size, now, lease, proposer, before, after, planned.paths)
    # A copy of the state's outer shell; the state itself is the registrar's and stays as it is.
    # The other leases are not looked through, nor copied: a station's old ones are many.
    leases = ChainMap({statement.digest: asked}, state.leases)
    shadow = replace(state, leases=cast("dict[str, LeaseState]", leases))
    step = examine_lease(shadow, statement.digest, now)[1]
    if not step.ok:
        raise LawRefused(
            step.code,
            f"the lease could never be claimed: {step.text}",
            rule="two_key",
            hint="change the proposal, or have the governors change the policy",
            step=step.number,
        )
    if lease.rule == "break_glass":
        _check_approvers(state, proposer)


def _check_approvers(state: State, proposer: SignerRef) -> None:
    """Two approvers may count together in an emergency; where the policy says so, one has a token that verifies its
    user. Raises: LawRefused (`quorum_unmet`).
    """
    trust = trust_of(state)
    members = [one for one in trust.members("approver") if one.custodian != proposer.custodian]
    if count_distinct(members) < 2:
        raise LawRefused(
            "quorum_unmet",
            "break-glass needs two human approvers with custodians of their own, and the trust root has not got them",
            rule="two_key",
            hint="propose it for a human's and an agent's key, or have the governors enrol another approver",
            step=6,
        )
    verified = {entry.public.raw for one in trust.principals for entry in one.keys if entry.user_verification}
    if _terms(state).break_glass.user_verification and verified.isdisjoint(one.raw for one in members):
        raise LawRefused(
            "quorum_unmet",
            "the policy asks one of two break-glass approvers for a hardware key that verifies its user, and no "
            "approver has one",
            rule="two_key",
            hint="propose it for a human's and an agent's key, or have the governors enrol such a key",
            step=5,
        )


def find_target(state: State, name: str) -> Target:
    """The target in the fleet in force. Raises: Refused (`no_fleet`, `unknown_target`)."""
    if state.fleet is None:
        raise Refused("no_fleet", "no fleet is in force yet", hint="calyx fleet propose FILE --approve")
    target = state.fleet.targets.get(name)
    if target is None:
        known = ", ".join(state.fleet.targets) or "none"
        raise Refused("unknown_target", f"the fleet has no target {name}; it has {known}", hint="calyx fleet show")
    return target


def free_lease_id(state: State, now: int) -> str:
    """LEASE-YYYYMMDD-HHMMSS, with a suffix when it is taken."""
    return _free(state, f"LEASE-{_stamp(now)}")


def free_intent_id(state: State, now: int) -> str:
    """INT-YYYYMMDD-NNN, the first number of the day that is free."""
    day = _stamp(now)[:8]
    number = 1
    while fold_id(f"INT-{day}-{number:03}") in state.ids:
        number += 1
    return f"INT-{day}-{number:03}"


def _shared(target: Target) -> tuple[str, ...]:
    """The shared paths that all instances have. Raises: Refused (`shared_differ`)."""
    if len({frozenset(i.shared) for i in target.instances}) > 1:
        raise Refused(
            "shared_differ",
            "instances of the target have different shared paths, so one directory makes different trees on them",
            hint="propose a patch",
        )
    return target.instances[0].shared


def _from_directory(source: Path, target: Target, objects: ObjectStore) -> tuple[Artifact, dict[str, Tree]]:
    shared = _shared(target)
    if not source.is_dir():
        raise UsageError("source_missing", f"{source} is not a directory")
    return _whole(ingest(source, objects, shared), target)


def _whole(tree: Tree, target: Target) -> tuple[Artifact, dict[str, Tree]]:
    artifact = Artifact(type="directory", sha256=tree.ref.sha256, size=tree.ref.size)
    return artifact, {i.name: tree for i in target.instances}


def _terms(state: State) -> DeployProduction:
    if state.policy is None:
        raise Unavailable("ledger_missing", "the ledger has no entry yet", hint="calyx init makes one")
    return state.policy.deploy_production


def _free(state: State, name: str) -> str:
    found, number = name, 1
    while fold_id(found) in state.ids:
        number += 1
        found = f"{name}-{number}"
    return found


def _stamp(now: int) -> str:
    text = format_time(now)
    return f"{text[:4]}{text[5:7]}{text[8:10]}-{text[11:13]}{text[14:16]}{text[17:19]}"
