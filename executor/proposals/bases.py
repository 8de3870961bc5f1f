"""The trees that a change starts from: what instances run now, or what another lease will have them run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Final

from executor.hosts.host import Host, Hosts
from executor.trees.scan import ingest
from executor.trees.tree import Tree, load_tree, parse_manifest
from keys.errors import CalyxError, LawRefused, Refused, Unavailable
from keys.values import fold_id, parse_time
from ledger.objects import ObjectStore
from policies.fleet import Instance, Target
from policies.fold.deployment import Deployment, Phase
from policies.fold.state import LeaseState, State
from policies.kinds import ABSENT
from policies.law.case import holds_now, policy_of, trust_of
from policies.law.places import Place, places_of
from policies.law.two_key import examine_lease

_COSIGNING: Final = frozenset({"sentinel", "validator"})
"""Roles of agents that cosign what they reviewed."""
_BACKWARDS: Final = frozenset({Phase.HALTED, Phase.ROLLING_BACK})


def see_trees(
    instances: Iterable[Instance], hosts: Hosts, objects: ObjectStore, promised: Mapping[str, str]
) -> dict[str, Tree | None]:
    """The tree that each instance starts from, by name; None for none. `promised`: instance -> the tree that it will
    have; the others are looked at.

    Raises: Unavailable of a host (`object_missing`, ...); CalyxError (`tree_dirty`) of a tree.
    """
    return {
        one.name: load_tree(promised[one.name], objects) if one.name in promised else _observe(one, hosts(one), objects)
        for one in instances
    }


def promised_trees(state: State, onto: LeaseState, target: str, now: int) -> dict[str, str]:
    """Instance -> the tree that it has when the lease `onto` is done, and what else runs on the target. `now`: seconds
    since 1970.

    An instance that the fleet has put elsewhere since is not among them: its name stands for another place.

    Raises: Refused (`wrong_target`); LawRefused (`base_moved`) for a lease that does not lead there any more.
    """
    lease = onto.lease
    if lease.target != target:
        raise Refused("wrong_target", f"{lease.id} is about {lease.target}, not about {target}")
    why = _never(state, onto, now)
    if why is not None:
        raise LawRefused(
            "base_moved",
            f"nothing can be planned onto {lease.id}: {why}",
            rule="lease",
            hint="plan on what runs now, without --onto",
            entry=onto.claim_seq or onto.seq,
        )
    live = state.live.get(target)
    # What the lease does not name may yet be changed by what runs before it.
    first = {} if live is None else _where_it_ends(state.deployments[live])
    places = {} if live is None else places_of(state, state.deployments[live].lease, first)
    places |= places_of(state, lease, onto.after)
    today = {} if state.fleet is None else places_today(state.fleet.targets[target])
    return {name: tree for name, tree in {**first, **onto.after}.items() if places[name] == today.get(name)}


def places_today(target: Target) -> dict[str, Place]:
    """Instance -> its place in a target."""
    return {instance.name: (instance.address, instance.root) for instance in target.instances}


def why_never_claimed(state: State, lease: LeaseState, now: int) -> str | None:
    """Why a lease that is neither claimed nor denied can be claimed no more, or None: its keys are there or can still
    come. `now`: seconds since 1970.
    """
    failed = {step.number: step for step in examine_lease(state, lease.digest, now) if not step.ok}
    for number in (2, 3):
        if number in failed and failed[number].code != "too_early":
            return f"it cannot be claimed any more: {failed[number].text}"
    wanted = policy_of(state).deploy_production.reviews
    if 9 in failed and any(_reviewed_in_vain(state, lease, {role}) for role in wanted):
        return f"it cannot be claimed any more: {failed[9].text}"
    if 5 in failed and failed[5].missing == "agent" and _reviewed_in_vain(state, lease, _COSIGNING):
        return f"it cannot be claimed any more: {failed[5].text}"
    if now > parse_time(lease.lease.approve_by) and not failed.keys().isdisjoint({4, 5, 6, 9}):
        return f"it could be approved until {lease.lease.approve_by}"
    return None


def _reviewed_in_vain(state: State, lease: LeaseState, roles: Set[str]) -> bool:
    """Whether a review in one of these roles can come from nobody: each agent reviews a lease once, whatever its key
    is, and cosigns what it reviewed.
    """
    trust = trust_of(state)
    done = {fold_id(name) for name in lease.reviews}
    agents = {fold_id(one.id) for one in trust.principals if not roles.isdisjoint(one.roles)}
    notes = (note for note in lease.reviews.values() if note.review.role in roles)
    good = any(holds_now(trust, note.signer, note.review.role) for note in notes)
    return bool(agents) and agents <= done and not good


def _where_it_ends(deployment: Deployment) -> dict[str, str]:
    back = deployment.phase in _BACKWARDS or _ordered_back(deployment)
    return deployment.before if back else deployment.after


def _never(state: State, onto: LeaseState, now: int) -> str | None:
    """Why a lease does not bring its trees after, or None where it may."""
    if onto.denied is not None:
        return f"it was denied in entry {onto.denied.seq}"
    deployment = state.deployments.get(onto.digest)
    if deployment is None:
        return why_never_claimed(state, onto, now)
    if _ordered_back(deployment):
        return "it is ordered back"
    if deployment.phase is Phase.COMPLETED:
        return _overtaken(state, deployment)
    return None if deployment.live and deployment.phase not in _BACKWARDS else f"it is {deployment.phase}"


def _overtaken(state: State, done: Deployment) -> str | None:
    live = state.live.get(done.lease.target)
    if live is not None:
        return f"it is complete, and {state.leases[live].lease.id} runs after it"
    for name, place in sorted(places_of(state, done.lease, done.intended).items()):
        later = state.touched[place].deployment
        if later != done.lease_digest:
            return f"{state.leases[later].lease.id} changed {name} after it"
    return None


def _ordered_back(deployment: Deployment) -> bool:
    return deployment.rollback_order is not None or deployment.abort_order is not None


def _observe(instance: Instance, host: Host, objects: ObjectStore) -> Tree | None:
    """The tree that an instance runs, None for none; kept as objects, so that everyone can see what changes."""
    observed = host.inspect(instance)
    if observed.tree == ABSENT:
        return None
    ref = objects.find(observed.tree)
    if ref is not None:
        return parse_manifest(objects.get(ref))
    if instance.address != "local":
        raise Unavailable(
            "object_missing",
            f"the tree of {instance.name} is not in the object store, and the instance is on another machine",
            object=observed.tree,
        )
    tree = ingest(Path(instance.root) / "current", objects, instance.shared)
    if tree.digest != observed.tree:
        raise CalyxError(
            "tree_dirty",
            f"{instance.name} should run {observed.tree[:16]}, and what is there is {tree.digest[:16]}",
            hint="find out who changed it; then let the instance be restored",
            instance=instance.name,
        )
    return tree
