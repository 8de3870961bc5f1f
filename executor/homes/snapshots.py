"""Where this user keeps what a later reader of a home can start from, and what is too much for memory.

snapshots    of audits (`calyx audit --new`), which looked at every object and account as well
folds        of every other reader: commands, agents, the executor
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from executor.user_paths import user_path
from keys.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from policies.fold.scratch import Scratch
    from policies.fold.snapshots import Snapshots
    from policies.pin import Pin
    from policies.replay import Replay
    from policies.submitter import Submitter

WORTH_KEEPING: Final = 1_000
"""Entries that a reader which ends keeps for the next one; fewer are read again as fast."""
KEEP_EVERY: Final = 4_000
"""Entries after which one that runs on does, so that a kill costs the next start less than a second or two."""


def scratch_place(*, spill: bool = False) -> Scratch:
    """Files without a name in the user's cache directory; memory where that cannot be written to. `spill`: as
    `policies.fold.scratch.Scratch` has it.
    """
    from policies.fold.scratch import Scratch

    return Scratch(user_path("cache") / "scratch", spill=spill)


def snapshots_of(pin: Pin, scratch: Scratch) -> Snapshots:
    """The snapshot of audits of a home whose head this user remembers at `pin`."""
    return _kept("snapshots", pin, scratch)


def folds_of(pin: Pin, scratch: Scratch) -> Snapshots:
    """The snapshot of a home for readers that replay it, as `snapshots_of`."""
    return _kept("folds", pin, scratch)


def _kept(name: str, pin: Pin, scratch: Scratch) -> Snapshots:
    from policies.fold.snapshots import Snapshots

    return Snapshots(user_path("state") / name, user_path("cache") / name, pin.home, scratch)


def begin_fold(reader: Submitter, log: Callable[[str], None]) -> None:
    """After the first `sync` of one that runs on: say where what was kept for it could not be believed, and keep it."""
    from policies.fold.code import fingerprint_code

    # Weeks from now another version may have been put in the place of the source files of the code that runs here.
    fingerprint_code()
    if reader.refused is not None:
        log(f"every entry was read again: {reader.refused}")
    keep_fold(reader, reader.now(), log)


def keep_fold(
    reader: Replay | Submitter, now: int, log: Callable[[str], None] | None = None, *, least: int = WORTH_KEEPING
) -> None:
    """Keep what was read for later readers, where it is worth it. Nobody waits for it to work out: what goes wrong is
    said to `log`, and the entries are read again. `now`: seconds since 1970.
    """
    try:
        reader.keep_new(least, now)
    except Unavailable as error:
        if log is not None:
            log(f"nothing is kept for the next start: {error.message}")
