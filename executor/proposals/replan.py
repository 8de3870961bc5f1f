"""Leases that are made from earlier ones: the same change from other trees, and the undoing of a deployment.

rebase    the change of a lease that no longer fits, from what its instances run now
revert    what a deployment changed, undone by the reverse patches of its claim, on top of what came later
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from executor.hosts.host import Hosts
from executor.proposals.bases import places_today, see_trees, why_never_claimed
from executor.proposals.propose import Asked, Planned, find_target, group_change, lead_by_patch
from executor.trees.reverse import check_reverse, parse_way_back, patch_of, undo_change
from executor.trees.tree import Tree, load_tree
from executor.views.lease_view import read_entry
from keys.errors import CalyxError, LawRefused, Refused, Unavailable
from keys.values import fold_id
from ledger.objects import ObjectRef, ObjectStore
from ledger.store import Reader
from policies.fleet import Target
from policies.fold.deployment import Deployment
from policies.fold.state import LeaseState, State
from policies.kinds import ABSENT, Artifact
from policies.law.commands import check_free, check_rollback
from policies.law.places import places_of

MAX_WORDS: Final = 3_000
"""Characters of an earlier intent that a new one repeats."""
_GONE_FOR_GOOD: Final = frozenset({"superseded", "retention_over"})


def ask_again(state: State, old: LeaseState, valid_s: int | None, until: int | None) -> Asked:
    """The terms of a lease for the one that replaces it, and those of the policy in force where they are stricter."""
    lease, intent = old.lease, state.intents[fold_id(old.lease.intent)]
    terms = None if state.policy is None else state.policy.deploy_production
    return Asked(
        target=lease.target,
        what=intent.what[:MAX_WORDS],
        why=f"{intent.why[:MAX_WORDS]} (replaces {lease.id})",
        tiers=tuple(sorted({*lease.tiers, *(terms.tiers if terms else ())})),
        bake_s=max(lease.bake_s, terms.bake_s if terms else 0),
        start="command" if lease.start == "command" else None,
        promotion="manual" if lease.promotion == "manual" else None,
        valid_s=valid_s,
        break_glass=lease.reason if lease.rule == "break_glass" else None,
        until=until,
    )


def check_replaceable(old: LeaseState) -> None:
    """A lease that is neither claimed nor denied. Raises: LawRefused (`lease_consumed`, `lease_denied`)."""
    if old.claim_seq is not None:
        raise LawRefused(
            "lease_consumed",
            f"{old.lease.id} was claimed in entry {old.claim_seq}, so its change was begun",
            rule="claim",
            hint="calyx propose asks for the change anew",
            entry=old.claim_seq,
        )
    if old.denied is not None:
        raise LawRefused(
            "lease_denied",
            f"{old.lease.id} was denied by {old.denied.principal} in entry {old.denied.seq}",
            rule="objection",
            hint="calyx propose asks for the change anew",
            entry=old.denied.seq,
        )


def plan_rebase(
    state: State, old: LeaseState, hosts: Hosts, objects: ObjectStore, promised: Mapping[str, str] | None, now: int
) -> Planned:
    """The change of a lease, for those of its instances that the fleet still has, from what they run now; or, on the
    way to it, from what is `promised` (`executor.proposals.bases`). `now`: seconds since 1970.

    Raises: LawRefused (`target_busy`, `still_fits`); CalyxError (`rebase_conflict` for a patch that does not apply any
    more); Refused (`no_change`, `unknown_target`); as `plan_change`.
    """
    lease = old.lease
    target = _those(find_target(state, lease.target), old.after)
    live = state.live.get(lease.target)
    if live is not None and promised is None:
        busy = state.leases[live].lease.id
        raise LawRefused(
            "target_busy",
            f"{busy} runs on {lease.target}, and what its instances run changes yet",
            rule="lease",
            hint=f"wait for its end, or follow on it: calyx lease rebase {lease.id} --onto {busy}",
        )
    befores = see_trees(target.instances, hosts, objects, promised or {})
    found = {name: ABSENT if tree is None else tree.digest for name, tree in befores.items()}
    if found == old.before and why_never_claimed(state, old, now) is None:
        raise LawRefused(
            "still_fits",
            f"{lease.id} starts from what its instances run, so nothing has to replace it",
            rule="lease",
            hint=f"calyx check {lease.id}",
            entry=old.seq,
        )
    # A patch does not apply where it was applied; who has the tree after already needs nothing.
    settled = {name: tree for name, tree in befores.items() if found[name] == old.after[name]}
    if len(settled) == len(found):
        text = f"every instance of {lease.target} has the tree already that {lease.id} leads to"
        raise Refused("no_change", text, hint=f"calyx deny {lease.id}, so that nobody waits for it")
    ref = ObjectRef(sha256=lease.artifact.sha256, size=lease.artifact.size)
    if lease.artifact.type == "directory":
        after = load_tree(ref.sha256, objects)
        return group_change(lease.target, befores, lease.artifact, dict.fromkeys(befores, after))
    try:
        artifact, afters = lead_by_patch(ref, _without(target, settled), befores, objects)
    except Unavailable:
        raise
    except CalyxError as error:
        raise CalyxError(
            "rebase_conflict",
            f"the change of {lease.id} does not fit what its instances run now: {error.message}",
            hint="mend the patch by hand, then: calyx propose",
        ) from error
    return group_change(lease.target, befores, artifact, {**afters, **_there(settled)})


def check_revertible(state: State, deployment: Deployment, now: int) -> None:
    """A deployment that a rollback cannot take back any more. Raises: LawRefused, with what is in the way."""
    lease = deployment.lease.id
    if deployment.live:
        raise LawRefused(
            "not_superseded",
            f"{lease} is {deployment.phase}, and goes back without a new lease",
            rule="rollback",
            hint=f"calyx rollback {lease}",
        )
    try:
        check_rollback(state, deployment, now)
    except LawRefused as refusal:
        if refusal.code not in _GONE_FOR_GOOD:
            raise
        # What another deployment is about to change is no tree to plan from.
        check_free(state, deployment)
        return
    raise LawRefused(
        "not_superseded",
        f"{lease} can be rolled back, which needs no new lease",
        rule="rollback",
        hint=f"calyx rollback {lease}",
    )


def plan_revert(
    state: State, deployment: Deployment, hosts: Hosts, objects: ObjectStore, reader: Reader
) -> tuple[Planned, tuple[str, ...]]:
    """The undoing of a deployment on top of what its instances run now, and which of them the target has no more: an
    instance is where it is, whatever a later fleet calls it. `reader`: of the ledger that `state` was read from.

    The artifact is the reverse patch where one patch leads every instance there; else the tree, where they all come to
    the same one.

    Raises: LawRefused (`no_way_back`); CalyxError (`revert_conflict`, `revert_differs`; `patch_not_reversible` when the
    evidence is not what the claim says); Refused (`no_change`, `unknown_target`); as `see_trees`.
    """
    lease = deployment.lease
    names = deployment.intended - deployment.restored
    today = find_target(state, lease.target)
    places = {place: name for name, place in places_of(state, lease, names).items()}
    called = {name: places[place] for name, place in places_today(today).items() if place in places}
    target = _those(today, called)
    ways = _ways_back(state, deployment, objects, reader)
    befores = see_trees(target.instances, hosts, objects, {})
    afters, patches = {}, set()
    made: dict[tuple[str, str, frozenset[str]], Tree] = {}
    settled: dict[str, Tree | None] = {}
    for instance in target.instances:
        name, present = instance.name, befores[instance.name]
        pair = deployment.before[called[name]], deployment.after[called[name]]
        if present is not None and present.digest == pair[0]:
            settled[name] = present
            continue
        way = ways.get(pair)
        if way is None or present is None:
            why = "nothing was there before" if way is None else "nothing is there now"
            raise LawRefused(
                "no_way_back",
                f"{lease.id} cannot be undone on {name}: {why}",
                rule="rollback",
                hint=f"calyx propose {lease.target} --dir asks for what is to be there",
                instance=name,
            )
        patches.add(patch_of(way))
        key = (present.digest, "".join(pair), frozenset(instance.shared))
        if key not in made:
            made[key] = _undo(deployment, name, pair, way, present, objects, instance.shared)
        afters[name] = made[key]
    gone = tuple(sorted(names - set(called.values())))
    if not afters:
        raise Refused("no_change", f"every instance of {lease.target} that {lease.id} changed has its old tree already")
    artifact = _artifact(deployment, _without(target, settled), befores, afters, patches, objects)
    return group_change(lease.target, befores, artifact, {**afters, **_there(settled)}), gone


def _undo(
    deployment: Deployment,
    name: str,
    pair: tuple[str, str],
    way: bytes,
    present: Tree,
    objects: ObjectStore,
    shared: tuple[str, ...],
) -> Tree:
    before, after = (load_tree(tree, objects) for tree in pair)
    with tempfile.TemporaryDirectory(prefix="calyx-revert-") as scratch:
        # The executor said that it leads back; nobody has looked yet.
        check_reverse(way, before, after, objects, Path(scratch))
    try:
        with tempfile.TemporaryDirectory(prefix="calyx-revert-") as scratch:
            return undo_change(way, present, objects, Path(scratch), shared)
    except Unavailable:
        raise
    except CalyxError as error:
        raise CalyxError(
            "revert_conflict",
            f"the reverse patch of {deployment.lease.id} does not apply to what {name} runs now: {error.message}",
            hint=f"make the change by hand, then: calyx propose {deployment.lease.target}",
            instance=name,
        ) from error


def _artifact(
    deployment: Deployment,
    target: Target,
    befores: Mapping[str, Tree | None],
    afters: Mapping[str, Tree],
    patches: set[bytes],
    objects: ObjectStore,
) -> Artifact:
    """What leads every instance from what it runs to its tree after, for whoever makes the trees again."""
    for patch in sorted(patches - {b""}):
        try:
            artifact, led = lead_by_patch(objects.put(patch), target, befores, objects)
        except Unavailable:
            raise
        except CalyxError:
            continue
        if led == afters:
            return artifact
    trees = {tree.digest: tree for tree in afters.values()}
    if len(trees) == 1:
        ((digest, tree),) = trees.items()
        return Artifact(type="directory", sha256=digest, size=len(tree.manifest))
    raise CalyxError(
        "revert_differs",
        f"undoing {deployment.lease.id} leads its instances to {len(trees)} trees, and no one patch does that",
        hint=f"bring them to one tree first: calyx propose {deployment.lease.target}",
    )


def _ways_back(
    state: State, deployment: Deployment, objects: ObjectStore, reader: Reader
) -> dict[tuple[str, str], bytes]:
    kept = read_entry(state, reader, deployment.claim_seq)[1].predicate["reverse"]
    if kept is not None:
        return parse_way_back(objects.get(ObjectRef.from_json(kept)))
    if all(before == ABSENT for before in deployment.before.values()):
        return {}
    raise LawRefused(
        "no_way_back",
        f"the claim of {deployment.lease.id} in entry {deployment.claim_seq} keeps no reverse patch",
        rule="rollback",
        hint=f"calyx propose {deployment.lease.target} --dir asks for the old content",
        entry=deployment.claim_seq,
    )


def _without(target: Target, left_out: Mapping[str, object]) -> Target:
    instances = tuple(instance for instance in target.instances if instance.name not in left_out)
    return target.model_copy(update={"instances": instances})


def _there(trees: Mapping[str, Tree | None]) -> dict[str, Tree]:
    return {name: tree for name, tree in trees.items() if tree is not None}


def _those(target: Target, names: Mapping[str, str] | set[str]) -> Target:
    """The target with these of its instances alone. Raises: LawRefused (`unknown_instance`) when none is left."""
    left = tuple(instance for instance in target.instances if instance.name in names)
    if not left:
        raise LawRefused("unknown_instance", "the fleet in force has none of these instances any more", rule="lease")
    return target.model_copy(update={"instances": left})
