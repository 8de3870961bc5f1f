"""A host: the place where an instance's releases lie and its service runs, and what may be asked of it.

    root/current -> releases/<tree digest>      a relative link; what the service runs
    root/releases/<tree digest>/                files 0444 or 0555, directories 0555
    root/shared/<path>                          what the service writes; a link in each release leads here
    root/.calyx/                                locks, fence, process.json, manifests/, staging/, adopted/, logs

Every operation is idempotent, and takes and gives only values that can be sent to another machine. Each raises a
`CalyxError` whose fields name the instance, and the path where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, Protocol, TypeAlias

from pydantic import Field

from keys.values import Count, Hash, Ident, Model, Seq
from policies.fleet import Instance
from policies.kinds import ABSENT, Artifact, Tree
from policies.matrix import Hook

MAX_LINEAGE: Final = 16
"""Ledgers before this one that a fence names."""

__all__ = ["ABSENT", "Check", "Fence", "HookRun", "Host", "Observed", "Plan", "Pruned", "Running"]


class Fence(Model):
    """The term under which an executor acts: the ledger's identity, the epoch, and the leaf of the term's entry.
    `continues`: the ledgers that this one succeeds, by its signed genesis and theirs, the newest first.
    """

    ledger: Hash
    epoch: Count
    leaf: Hash
    continues: Annotated[Seq[Hash], Field(max_length=MAX_LINEAGE)] = ()


class Running(Model):
    """A service process. `started`: clock ticks between the machine's boot and its start; with `boot` and `pid` this
    names one process for ever. `tree`: the release it was started in.
    """

    pid: Annotated[int, Field(ge=2)]
    started: Count
    boot: str
    tree: Hash


class Observed(Model):
    """What an instance looks like now. `tree`: by the name that `current` leads to, without reading the release; when
    `current` is a directory that waits to be adopted, `adoptable` is true and `tree` is the digest of what is in it.
    `free_bytes`: room for new releases. `writable`: the executor may write there.
    """

    tree: Tree
    adoptable: bool
    process: Running | None
    fence: Fence | None
    free_bytes: Count
    writable: bool


class Plan(Model):
    """How the release `after` is made: from a tree manifest's objects, by a patch on the release `before`, or, with no
    artifact, from the manifest that the host kept of it and the objects (a dirty release is made again so).
    """

    before: Tree
    after: Hash
    artifact: Artifact | None


class Pruned(Model):
    """Releases that were removed, and those that were not because a process uses them, by their trees."""

    removed: Seq[Hash]
    in_use: Seq[Hash]


class HookRun(Model):
    """A hook to run on an instance. `name`: what the policy calls it. `hook`: what the policy says it is."""

    verb: Literal["drain", "undrain", "probe"]
    name: Ident
    hook: Hook


class Check(Model):
    """The command of an instance's probe, and the term under which it may be run."""

    run: HookRun
    fence: Fence


class Host(Protocol):
    """What the executor asks of a machine. Any operation may raise Unavailable `host_io` when the machine fails."""

    def inspect(self, instance: Instance) -> Observed:
        """What is there now. Raises: CalyxError (`current_unknown`, `fence_unreadable`)."""
        ...

    def scrub(self, instance: Instance, tree: str) -> None:
        """Prove, by reading every byte, that the release `tree` is whole and holds nothing else.

        Raises: CalyxError (`release_missing`; `tree_dirty`, whose field `path` names one difference).
        """
        ...

    def stage(self, instance: Instance, plan: Plan) -> None:
        """Make the release `plan.after` whole and durable beside the current one. Serves nothing yet.

        A release that is there is scrubbed, and made again when dirty. When `current` is a directory to adopt, its
        copy becomes the release `plan.before`.

        Raises: CalyxError (`object_mismatch`, `patch_failed`, `path_escapes`, `shared_missing`, `tree_unexpected`,
        `bad_reload`, `host_busy`); Unavailable (`object_missing`).
        """
        ...

    def flip(self, instance: Instance, expected: str, new: str, fence: Fence) -> None:
        """Let `current` lead to the release `new` instead of `expected`, in one step, durable on return.

        When it leads to `new` already, nothing changes. `new` may be `absent`; stop the service first.

        Raises: CalyxError (`fenced`, `fork_detected`, `other_ledger`, `tree_unexpected`, `release_missing`,
        `host_busy`).
        """
        ...

    def reload(self, instance: Instance, fence: Fence, check: Check | None = None) -> None:
        """Make the service take up the current release, by a new process or by the fleet's command. `check`: as in
        `settle`; what passes while the service is stopped proves nothing.

        Raises: CalyxError (as `flip` for the fence; `release_missing`, `reload_failed`, `service_start_failed`,
        `service_running`, `probe_not_ours`, `host_busy`).
        """
        ...

    def stop(self, instance: Instance, fence: Fence) -> None:
        """End the service and every process of its session. Raises: CalyxError (as `flip`; `service_unstoppable`)."""
        ...

    def run_hook(self, instance: Instance, run: HookRun, fence: Fence) -> None:
        """Run a hook to its end, at most for its time limit; it may have run before.

        Raises: CalyxError (as `flip` for the fence; `drain_failed`, `undrain_failed`, `host_busy`).
        """
        ...

    def settle(self, instance: Instance, tree: str, check: Check | None = None) -> None:
        """Prove that the instance runs `tree`: `current` leads to it, the process is younger than the flip and works in
        that release, and the probe passes. For `absent`: no `current` and no process.

        `check`: the command of the instance's probe, where that names one; without it such a probe fails.

        Raises: CalyxError (`tree_unexpected`, `process_stale`, `probe_failed`; `service_exited` as soon as the process
        is gone; as `flip` for the fence of `check`; `host_busy`).
        """
        ...

    def prune(self, instance: Instance, keep: tuple[str, ...], fence: Fence, *, dry_run: bool = False) -> Pruned:
        """Remove every release but the current one, those in `keep`, and those that a process uses. `dry_run`: only say
        which.

        Raises: CalyxError (as `flip` for the fence; `current_unknown`, `host_busy`).
        """
        ...


Hosts: TypeAlias = Callable[[Instance], Host]
"""The machine that an instance is on."""
