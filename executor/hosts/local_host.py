"""`Host` for instances on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from executor.hosts import adopt
from executor.hosts.command import Monotonic, run_command
from executor.hosts.fence import load_fence, take_fence
from executor.hosts.hooks import ProbeTries, run_hook
from executor.hosts.host import Check, Fence, HookRun, Observed, Plan, Pruned, Running
from executor.hosts.layout import Layout, layout_of, locked, point_current, prepare, read_current
from executor.hosts.probe import Command, check_probe, try_once
from executor.hosts.process import LANG, PATH, exited, load_running, start_service, stop_service, trim_log
from executor.hosts.processes import MARKER, boot_id, ticks_now, wait_ended
from executor.hosts.pruning import prune_releases
from executor.hosts.releases import (
    build_release,
    check_release,
    check_shared_links,
    clear_staging,
    prepare_shared,
)
from executor.trees.tree import check_shared, shown
from keys.canonical import Json, format_json, parse_json
from keys.errors import CalyxError, FormatError, Unavailable
from keys.regular import read_regular
from ledger.durable import replace_file, sync_directory
from ledger.objects import ObjectStore
from policies.fleet import Instance
from policies.kinds import ABSENT

_STAGE_WAIT_S: Final = 600.0
_SERVICE_WAIT_S: Final = 120.0
_GRACE_S: Final = 0.2
"""How long a service without a probe must live before it counts as started."""
_STOPPED_S: Final = 1.0
"""How long a probe is listened to while the service is stopped, and nobody is served."""


class LocalHost:
    """This machine. `objects`: where artifacts and files of trees are read from. `lock_wait_s`: how long a flip waits
    for another executor's. `monotonic`: the clock of hooks, probes and reload commands; seconds that only grow.
    `pause`: lets so many seconds pass between two tries of a probe.
    """

    def __init__(
        self,
        objects: ObjectStore,
        lock_wait_s: float = 10.0,
        *,
        monotonic: Monotonic = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._objects: Final = objects
        self._lock_wait_s: Final = lock_wait_s
        self._monotonic: Final = monotonic
        self._pause: Final = pause

    def inspect(self, instance: Instance) -> Observed:
        with _naming(instance) as layout:
            trim_log(layout)
            tree = read_current(layout)
            adoptable = tree == "adoptable"
            if adoptable:
                tree = adopt.scan_current(layout, instance).digest
            place = next(path for path in (layout.root, *layout.root.parents) if path.exists())
            room = os.statvfs(place)
            return Observed(
                tree=tree,
                adoptable=adoptable,
                process=load_running(layout),
                fence=load_fence(layout.private / "fence"),
                free_bytes=room.f_bavail * room.f_frsize,
                writable=os.access(place, os.W_OK | os.X_OK, effective_ids=True),
            )

    def scrub(self, instance: Instance, tree: str) -> None:
        with _naming(instance) as layout:
            if read_current(layout) == "adoptable" and not layout.release(tree).exists():
                adopt.check_current(layout, instance, tree)
                return
            check_release(layout, tree)

    def stage(self, instance: Instance, plan: Plan) -> None:
        with _naming(instance) as layout:
            _check_reload(instance)
            check_shared(instance.shared)
            prepare(layout)
            with locked(layout, "stage.lock", _STAGE_WAIT_S):
                clear_staging(layout)
                if read_current(layout) == "adoptable" and plan.before != ABSENT:
                    adopt.keep_before(layout, instance, plan.before)
                try:
                    tree = check_release(layout, plan.after)
                    # A kill between the rename and the mode leaves it open.
                    layout.release(plan.after).chmod(0o555)
                except CalyxError as error:
                    if error.code not in {"release_missing", "tree_dirty"}:
                        raise
                    tree = build_release(layout, instance, plan, self._objects)
                if plan.artifact is not None:
                    check_shared_links(tree, instance)
                prepare_shared(layout, instance)

    def flip(self, instance: Instance, expected: str, new: str, fence: Fence) -> None:
        with _naming(instance) as layout:
            prepare(layout)
            with locked(layout, "lock", self._lock_wait_s):
                flip_locked(layout, instance, expected, new, fence)

    def reload(self, instance: Instance, fence: Fence, check: Check | None = None) -> None:
        with _naming(instance) as layout, self._fenced(layout, fence):
            _check_reload(instance)
            tree = _served(layout)
            if instance.reload.kind == "command":
                _run_reload(instance, layout.release(tree), self._monotonic)
            elif instance.process is not None:
                stop_service(layout, instance.process.stop_s)
                _check_probe_is_ours(instance, self._tries_of(layout, instance, check))
                start_service(layout, instance.process, tree)

    def stop(self, instance: Instance, fence: Fence) -> None:
        with _naming(instance) as layout, self._fenced(layout, fence):
            if instance.process is not None:
                stop_service(layout, instance.process.stop_s)

    def run_hook(self, instance: Instance, run: HookRun, fence: Fence) -> None:
        with _naming(instance) as layout, self._fenced(layout, fence):
            run_hook(layout, instance, run, self._monotonic)

    def settle(self, instance: Instance, tree: str, check: Check | None = None) -> None:
        with _naming(instance) as layout:
            found = read_current(layout)
            if found == "adoptable":
                # Nothing was touched here: whatever started the service still answers for it.
                adopt.check_current(layout, instance, tree)
                self._probe(layout, instance, check)
                return
            if found != tree:
                raise _unexpected(instance, found, tree)
            if tree == ABSENT:
                if load_running(layout) is not None:
                    raise CalyxError("process_stale", "the service still runs, and nothing is deployed")
                return
            if instance.process is not None:
                _check_young(layout, tree)
            self._probe(layout, instance, check)
            if instance.process is not None:
                _check_young(layout, tree)

    def prune(self, instance: Instance, keep: tuple[str, ...], fence: Fence, *, dry_run: bool = False) -> Pruned:
        with _naming(instance) as layout:
            return prune_releases(layout, keep, fence, self._lock_wait_s, dry_run=dry_run)

    def _probe(self, layout: Layout, instance: Instance, check: Check | None) -> None:
        running = load_running(layout) if instance.process is not None else None
        if instance.process is not None and running is None:
            raise exited(layout)
        if instance.probe is not None:
            tries = self._tries_of(layout, instance, check)
            try:
                check_probe(
                    instance.probe,
                    lambda timeout_s: self._gone(running, timeout_s),
                    lambda: exited(layout),
                    None if tries is None or check is None else self._command(layout, tries, check.fence),
                    self._monotonic,
                )
            finally:
                if tries is not None:
                    tries.keep()
        elif running is not None and wait_ended(running, _GRACE_S):
            raise exited(layout)

    def _gone(self, running: Running | None, timeout_s: float) -> bool:
        if running is not None:
            return wait_ended(running, timeout_s)
        # Something else runs the service, and nobody tells us when it ends.
        if timeout_s:
            self._pause(timeout_s)
        return False

    def _tries_of(self, layout: Layout, instance: Instance, check: Check | None) -> ProbeTries | None:
        named = None if instance.probe is None else instance.probe.hook
        if check is None or named is None:
            return None
        if check.run.verb != "probe" or check.run.name != named:
            raise CalyxError("probe_failed", f"the probe names the hook {named}, and {check.run.name} was to be run")
        return ProbeTries(layout, instance, check.run, self._monotonic)

    def _command(self, layout: Layout, tries: ProbeTries, fence: Fence) -> Command:
        def attempt(limit_s: float) -> str | None:
            # For one try only: whoever takes over need not wait until the probe's time is over.
            with self._fenced(layout, fence):
                return tries.attempt(limit_s)

        return attempt

    @contextmanager
    def _fenced(self, layout: Layout, fence: Fence) -> Iterator[None]:
        prepare(layout)
        with locked(layout, "service.lock", _SERVICE_WAIT_S):
            with locked(layout, "lock", self._lock_wait_s):
                take_fence(layout.private / "fence", fence)
            yield


def flip_locked(layout: Layout, instance: Instance, expected: str, new: str, fence: Fence) -> None:
    """Check the fence, check what is there, and flip. The caller holds `lock`; nothing here waits.

    Raises: as `Host.flip`.
    """
    take_fence(layout.private / "fence", fence)
    adopt.put_aside(layout)
    found = read_current(layout)
    if found == new:
        # Whoever flipped may have been killed before the sync.
        sync_directory(layout.root)
        return
    if found == "adoptable":
        adopt.check_current(layout, instance, expected)
    elif found != expected:
        raise _unexpected(instance, found, expected)
    if new != ABSENT and (layout.release(new).is_symlink() or not layout.release(new).is_dir()):
        raise CalyxError("release_missing", f"release {new[:16]} is not on the host", tree=new)
    # Before the flip, so that a process started in between counts as older than it.
    _store_flip(layout)
    if found == "adoptable":
        adopt.replace_current(layout, new)
    else:
        point_current(layout, new)


@contextmanager
def _naming(instance: Instance) -> Iterator[Layout]:
    """Give the instance's layout; every refusal names the instance, and what the machine refuses is `host_io`."""
    try:
        yield layout_of(instance)
    except CalyxError as error:
        error.fields.setdefault("instance", instance.name)
        raise
    except OSError as error:
        where = f" at {shown(str(error.filename))}" if error.filename else ""
        raise Unavailable(
            "host_io", f"instance {instance.name}: {error.strerror or error}{where}", instance=instance.name
        ) from error


def _served(layout: Layout) -> str:
    tree = read_current(layout)
    if tree in (ABSENT, "adoptable") or not layout.release(tree).is_dir():
        raise CalyxError("release_missing", f"{layout.current} leads to no release")
    return tree


def _check_reload(instance: Instance) -> None:
    if instance.reload.kind == "command" and (instance.process is not None or not instance.reload.argv):
        raise CalyxError(
            "bad_reload",
            "the fleet names a reload command together with a process, or without its words",
            hint="a service that something else runs has a command and no process; one that is run here, the reverse",
        )


def _run_reload(instance: Instance, release: Path, monotonic: Monotonic) -> None:
    command = instance.reload
    environment = {"PATH": PATH, "LANG": LANG, MARKER: instance.root}
    run_command(command.argv, release, environment, command.timeout_s, monotonic)


def _check_probe_is_ours(instance: Instance, tries: ProbeTries | None) -> None:
    command = None if tries is None else tries.attempt
    if instance.probe is not None and try_once(instance.probe, _STOPPED_S, command) is None:
        raise CalyxError(
            "probe_not_ours",
            "the probe passes although the service is stopped, so it proves nothing",
            hint="end the other program on that port, or probe the instance itself",
        )


def _check_young(layout: Layout, tree: str) -> None:
    running = load_running(layout)
    if running is None:
        raise exited(layout)
    boot, ticks = _load_flip(layout)
    if running.tree != tree or (boot == running.boot and running.started < ticks):
        raise CalyxError("process_stale", "the service was started before the flip", hint="reload the instance")
    try:
        here = Path(f"/proc/{running.pid}/cwd").stat()
        release = layout.release(tree).stat()
    except FileNotFoundError:
        # It may have ended since it was looked at.
        if load_running(layout) is None:
            raise exited(layout) from None
        raise CalyxError("process_stale", "the service's directory is gone", hint="reload the instance") from None
    if (here.st_dev, here.st_ino) != (release.st_dev, release.st_ino):
        raise CalyxError(
            "process_stale", "the service does not work in the release it should serve", hint="reload the instance"
        )


def _store_flip(layout: Layout) -> None:
    value: Json = {"boot": boot_id(), "ticks": ticks_now()}
    replace_file(layout.private / "flip", format_json(value), 0o644)


def _load_flip(layout: Layout) -> tuple[str, int]:
    # Without the note the age is not known; what a process works in still says which release it serves.
    with suppress(OSError, FormatError):
        value = parse_json(read_regular(layout.private / "flip", 1024), limit=1024)
        if isinstance(value, dict) and type(value.get("ticks")) is int:
            return str(value.get("boot")), int(str(value["ticks"]))
    return "", 0


def _unexpected(instance: Instance, found: str, expected: str) -> CalyxError:
    return CalyxError(
        "tree_unexpected",
        f"instance {instance.name} is on {found[:16]}, not on {expected[:16]}",
        hint="find out who changed it",
        tree=found,
        instance=instance.name,
    )
