"""Where this user keeps what a later reader of a home can start from, and what is too much for memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.replay import Pin
    from policies.scratch import Scratch
    from policies.snapshots import Snapshots


def scratch_place() -> Scratch:
    """Files without a name in the user's cache directory; memory where that cannot be written to."""
    from platformdirs import user_cache_path

    from policies.scratch import Scratch

    return Scratch(user_cache_path("calyx") / "scratch")


def snapshots_of(pin: Pin, scratch: Scratch) -> Snapshots:
    """The snapshot of a home whose head this user remembers at `pin`. What is noted of it lies beside that."""
    from platformdirs import user_cache_path, user_state_path

    from policies.snapshots import Snapshots

    memory, cache = user_state_path("calyx") / "snapshots", user_cache_path("calyx") / "snapshots"
    return Snapshots(memory, cache, pin.home, scratch)
