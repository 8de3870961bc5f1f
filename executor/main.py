"""The process behind `calyx`: its signals, its streams, and whose modules it runs. Then the command line.

Little is imported here. What is slow to load comes once an interrupt is no traceback any more, and nothing of the other
rooms before they were seen to be ours.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

from executor.endings import INTERRUPTED, USAGE, drop_unwritten, tell, tell_interrupted, wants_json

ROOMS: Final = ("keys", "ledger", "policies", "executor")


def find_foreign_room() -> str | None:
    """What is wrong when one of the four rooms belongs to another distribution: their names are common ones."""
    here = Path(__file__).resolve().parent.parent
    for room in ROOMS:
        spec = find_spec(room)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin is None or origin.parent.parent != here:
            return f"the package {room} is not the one that belongs to calyx, it is {origin or 'missing'}"
    return None


def main() -> None:
    """Run `calyx` with the process's arguments, and end the process."""
    try:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _end)
        _open_missing_streams()
        _main()
    except KeyboardInterrupt:
        # Before the command began, while its modules were loading.
        tell_interrupted(as_json=wants_json(sys.argv[1:]))
        sys.exit(INTERRUPTED)
    finally:
        drop_unwritten()


def _end(number: int, frame: object) -> NoReturn:
    # As an interrupt: what lies in temporary directories is removed on the way. Asked once more during that, it ends.
    del frame
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _open_missing_streams() -> None:
    # Whoever closed a stream wants nothing from it; without this the next file that is opened would take its number.
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115, PTH123  # open until the process ends
            if stream.fileno() != number:
                os.dup2(stream.fileno(), number)
            setattr(sys, name, stream)


def _main() -> None:
    foreign = find_foreign_room()
    if foreign is not None:
        message, hint = ascii(foreign)[1:-1], "install calyx into an environment of its own"
        lines = (f"error: foreign_room: {message}", f"hint: {hint}")
        tell("foreign_room", message, lines, USAGE, as_json=wants_json(sys.argv[1:]), hint=hint)
        sys.exit(USAGE)
    from executor.command_line import app

    app(prog_name="calyx")
