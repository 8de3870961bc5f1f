"""Effects on one instance, written so that doing them again after any crash is right.

Each begins by looking: on the tree to reach, only what is missing is done; on the tree to leave, everything; on
neither, it stops (forward) or goes back all the same (backward). A release is staged and verified before the flip.
"""

from __future__ import annotations

from dataclasses import dataclass

from executor.host import Fence, Host, Plan
from keys.errors import CalyxError
from policies.fleet import Instance
from policies.kinds import ABSENT, Artifact


class Drifted(CalyxError):
    """An instance is on a tree that the lease does not know."""

    def __init__(self, instance: str, found: str) -> None:
        super().__init__(
            "drift",
            f"instance {instance} is on {found[:16]}, neither the tree before nor the tree after",
            hint="find out who changed it",
            instance=instance,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One instance's way from `before` to `after`."""

    instance: Instance
    before: str
    after: str
    artifact: Artifact


def apply_instance(host: Host, step: Step, fence: Fence) -> None:
    """Bring an instance to its tree after: staged, flipped, reloaded, probed. Nothing is done twice.

    Raises: Drifted; CalyxError of the host.
    """
    observed = host.inspect(step.instance)
    if observed.tree == step.after:
        host.scrub(step.instance, step.after)
        _settle(host, step.instance, step.after, fence)
        return
    if observed.tree != step.before:
        raise Drifted(step.instance.name, observed.tree)
    host.stage(step.instance, Plan(before=step.before, after=step.after, artifact=step.artifact))
    host.flip(step.instance, step.before, step.after, fence)
    host.reload(step.instance, fence)
    host.settle(step.instance, step.after)


def restore_instance(host: Host, step: Step, fence: Fence) -> bool:
    """Take an instance back to its tree before, whatever it is on now. True when the release had to be built again.

    Raises: CalyxError of the host.
    """
    observed = host.inspect(step.instance)
    if step.before == ABSENT:
        host.stop(step.instance, fence)
        if observed.tree != ABSENT:
            host.flip(step.instance, observed.tree, ABSENT, fence)
        host.settle(step.instance, ABSENT)
        return False
    rebuilt = _ensure_release(host, step)
    if observed.tree != step.before:
        host.flip(step.instance, observed.tree, step.before, fence)
        host.reload(step.instance, fence)
    elif rebuilt:
        # The service ran in a release that was not what it should be.
        host.reload(step.instance, fence)
    _settle(host, step.instance, step.before, fence)
    return rebuilt


def _ensure_release(host: Host, step: Step) -> bool:
    try:
        host.scrub(step.instance, step.before)
    except CalyxError as error:
        if error.code not in {"release_missing", "tree_dirty", "tree_changed", "tree_unreadable"}:
            raise
        host.stage(step.instance, Plan(before=ABSENT, after=step.before, artifact=None))
        return True
    return False


def _settle(host: Host, instance: Instance, tree: str, fence: Fence) -> None:
    """The instance runs `tree`; its service is started again where it does not."""
    try:
        host.settle(instance, tree)
    except CalyxError as error:
        if error.code not in {"process_stale", "service_exited", "probe_failed"}:
            raise
        host.reload(instance, fence)
        host.settle(instance, tree)
