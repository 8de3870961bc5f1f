"""Effects on one instance, written so that doing them again after any crash is right.

Each begins by looking: on the tree to reach, only what is missing is done; on the tree to leave, everything; on
neither, it stops (forward) or goes back all the same (backward). A release is staged and verified before the flip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from executor.hosts.host import Check, Fence, HookRun, Host, Plan
from keys.errors import CalyxError
from policies.fleet import Instance
from policies.kinds import ABSENT, Artifact

MAX_WARNING: Final = 1000
"""Characters of a warning that an entry carries."""


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
    """One instance's way from `before` to `after`, with the hooks that take it out of traffic and put it back, and the
    command of its probe.
    """

    instance: Instance
    before: str
    after: str
    artifact: Artifact
    drain: HookRun | None = None
    undrain: HookRun | None = None
    probe: HookRun | None = None

    def check(self, fence: Fence) -> Check | None:
        """The probe's command, to be run under that term."""
        return None if self.probe is None else Check(run=self.probe, fence=fence)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an effect. `rebuilt`: a release had to be made again. `warning`: what failed beside it."""

    rebuilt: bool = False
    warning: str | None = None


def apply_instance(host: Host, step: Step, fence: Fence) -> None:
    """Bring an instance to its tree after: staged, drained, flipped, reloaded, probed, undrained. Nothing is done twice
    but the hooks: a failed drain stops before the flip, and after a failed undrain the instance is not applied. Where
    nothing is deployed there is nothing to drain.

    Raises: Drifted; CalyxError of the host.
    """
    observed = host.inspect(step.instance)
    if observed.tree == step.after:
        host.scrub(step.instance, step.after)
        _settle(host, step, step.after, fence)
        _run(host, step.instance, step.undrain, fence)
        return
    if observed.tree != step.before:
        raise Drifted(step.instance.name, observed.tree)
    host.stage(step.instance, Plan(before=step.before, after=step.after, artifact=step.artifact))
    if step.before != ABSENT:
        _run(host, step.instance, step.drain, fence)
    host.flip(step.instance, step.before, step.after, fence)
    host.reload(step.instance, fence, step.check(fence))
    host.settle(step.instance, step.after, step.check(fence))
    _run(host, step.instance, step.undrain, fence)


def restore_instance(host: Host, step: Step, fence: Fence) -> Outcome:
    """Take an instance back to its tree before, whatever it is on now. A hook that fails is a warning: it keeps nothing
    from being restored. The undrain runs where nothing was flipped, too, as a drain may have; where nothing is deployed
    any more there is none.

    Raises: CalyxError of the host.
    """
    observed = host.inspect(step.instance)
    if step.before == ABSENT:
        warnings = [_try(host, step.instance, step.drain if observed.tree != ABSENT else None, fence)]
        host.stop(step.instance, fence)
        if observed.tree != ABSENT:
            host.flip(step.instance, observed.tree, ABSENT, fence)
        host.settle(step.instance, ABSENT)
        return Outcome(warning=_joined(warnings))
    warnings = []
    rebuilt = _ensure_release(host, step)
    if observed.tree != step.before or rebuilt:
        warnings.append(_try(host, step.instance, step.drain, fence))
        if observed.tree != step.before:
            host.flip(step.instance, observed.tree, step.before, fence)
        # Also where only the release was rebuilt: the service ran in one that was not what it should be.
        host.reload(step.instance, fence, step.check(fence))
    _settle(host, step, step.before, fence)
    warnings.append(_try(host, step.instance, step.undrain, fence))
    return Outcome(rebuilt, _joined(warnings))


def _ensure_release(host: Host, step: Step) -> bool:
    try:
        host.scrub(step.instance, step.before)
    except CalyxError as error:
        if error.code not in {"release_missing", "tree_dirty", "tree_changed", "tree_unreadable"}:
            raise
        host.stage(step.instance, Plan(before=ABSENT, after=step.before, artifact=None))
        return True
    return False


def _settle(host: Host, step: Step, tree: str, fence: Fence) -> None:
    """The instance runs `tree`; its service is started again where it does not."""
    instance, check = step.instance, step.check(fence)
    try:
        host.settle(instance, tree, check)
    except CalyxError as error:
        if error.code not in {"process_stale", "service_exited", "probe_failed"}:
            raise
        host.reload(instance, fence, check)
        host.settle(instance, tree, check)


def _run(host: Host, instance: Instance, hook: HookRun | None, fence: Fence) -> None:
    if hook is not None:
        host.run_hook(instance, hook, fence)


def _try(host: Host, instance: Instance, hook: HookRun | None, fence: Fence) -> str | None:
    """Run a hook; what failed. Raises: CalyxError when the host is not to be acted on at all."""
    try:
        _run(host, instance, hook, fence)
    except CalyxError as error:
        if error.code not in {"drain_failed", "undrain_failed"}:
            raise
        return error.message
    return None


def _joined(warnings: list[str | None]) -> str | None:
    # Shorter than an entry's text may be, whatever a hook prints.
    return "; ".join(filter(None, warnings))[:MAX_WARNING] or None
