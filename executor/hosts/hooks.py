"""Hooks: commands of the policy that take an instance out of traffic before it is touched, put it back after, and prove
that it works in between.

Which ones: the lease's drain and undrain where it names one, else the instance's own from the fleet; of a probe always
the instance's own. What runs is what the policy of the lease says under that name, and nothing that anybody adds.
Whoever is killed meanwhile runs them again, so each happens at least once, and an undrain may happen without a drain
before it.

    root/.calyx/hooks.log    what they printed, the last 64 KiB of each run, of a probe's only the last one's; the older
                             part in hooks.log.1
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from executor.hosts.command import Monotonic, run_bounded, with_last_line
from executor.hosts.host import HookRun
from executor.hosts.layout import Layout
from executor.hosts.process import LANG, PATH
from executor.hosts.processes import HOOK_MARKER, end_hooks
from keys.errors import CalyxError
from keys.regular import open_regular
from policies.fleet import Instance
from policies.kinds import Lease
from policies.matrix import CapabilityMatrix

_MAX_LOG: Final = 1024 * 1024


def hooks_of(
    policy: CapabilityMatrix, lease: Lease, instance: Instance
) -> tuple[HookRun | None, HookRun | None, HookRun | None]:
    """The drain, the undrain and the probe's command of an instance. `policy`: the lease's own, whose two-key rule saw
    to it that it has every hook that is named.
    """
    known = policy.deploy_production.hooks
    drain = lease.hooks.drain or instance.hooks.drain
    undrain = lease.hooks.undrain or instance.hooks.undrain
    probe = None if instance.probe is None else instance.probe.hook
    return (
        None if drain is None else HookRun(verb="drain", name=drain, hook=known[drain]),
        None if undrain is None else HookRun(verb="undrain", name=undrain, hook=known[undrain]),
        None if probe is None else HookRun(verb="probe", name=probe, hook=known[probe]),
    )


def run_hook(layout: Layout, instance: Instance, run: HookRun, monotonic: Monotonic) -> None:
    """Run a hook to its end, in the instance's root. Ended with it: whatever it leaves running, and what a hook of this
    instance left that outlived its executor. `monotonic`: seconds that only grow.

    Its environment is PATH, LANG, CALYX_HOOK (drain, undrain or probe), CALYX_NAME (the instance's name) and
    CALYX_HOOK_OF (its root). The caller holds `service.lock`.

    Raises: CalyxError `drain_failed`, `undrain_failed` with the last line it printed, when it cannot be started, ends
    with another status than 0, takes longer than the policy allows, or cannot be ended.
    """
    output, problem = _attempt(layout, instance, run, _limit_of(run), monotonic)
    _keep(layout, run, output, problem or "ended with 0")
    _end_left(run, str(layout.root))
    if problem is not None:
        raise _failed(run, with_last_line(problem, output), f"read {layout.private / 'hooks.log'}")


class ProbeTries:
    """The command of an instance's probe, which is tried until it passes. `monotonic`: seconds that only grow."""

    def __init__(self, layout: Layout, instance: Instance, run: HookRun, monotonic: Monotonic) -> None:
        self._layout, self._instance, self._run, self._monotonic = layout, instance, run, monotonic
        self._last: tuple[bytes, str | None] | None = None

    def attempt(self, limit_s: float) -> str | None:
        """Run it as `run_hook` does, at most for `limit_s` seconds and for its own time limit. None when it ended with
        0, else what went wrong, in one line. The caller holds `service.lock`.

        Raises: CalyxError `probe_failed` when something that it, or a hook before it, left running cannot be ended.
        """
        output, problem = self._last = _attempt(
            self._layout, self._instance, self._run, min(limit_s, _limit_of(self._run)), self._monotonic
        )
        _end_left(self._run, str(self._layout.root))
        return None if problem is None else with_last_line(problem, output)

    def keep(self) -> None:
        """Write down what the last try printed."""
        if self._last is not None:
            output, problem = self._last
            _keep(self._layout, self._run, output, problem or "ended with 0")


def _limit_of(run: HookRun) -> float:
    return max(1.0, run.hook.timeout_s)


def _attempt(
    layout: Layout, instance: Instance, run: HookRun, limit_s: float, monotonic: Monotonic
) -> tuple[bytes, str | None]:
    root = str(layout.root)
    environment = {"PATH": PATH, "LANG": LANG, "CALYX_HOOK": run.verb, "CALYX_NAME": instance.name, HOOK_MARKER: root}
    _end_left(run, root)
    return run_bounded(run.hook.argv, layout.root, environment, limit_s, monotonic, leave=False)


def _end_left(run: HookRun, root: str) -> None:
    left = end_hooks(root)
    if left:
        raise _failed(run, f"process {left[0]} of a hook does not end", "end it by hand")


def _keep(layout: Layout, run: HookRun, output: bytes, how: str) -> None:
    # A full disk must not stop a way back.
    with suppress(OSError):
        path = layout.private / "hooks.log"
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640, links=False)
        with os.fdopen(descriptor, "ab") as file:
            if os.fstat(descriptor).st_size > _MAX_LOG:
                path.rename(layout.private / "hooks.log.1")
            file.write(f"calyx: {run.verb} {run.name}: {how}\n".encode() + output)
            if output and not output.endswith(b"\n"):
                file.write(b"\n")


def _failed(run: HookRun, why: str, hint: str) -> CalyxError:
    return CalyxError(f"{run.verb}_failed", f"the hook {run.name} failed: {why}", hint=hint, hook=run.name)
