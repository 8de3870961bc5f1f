"""Where the files of a user lie: the directories that a system gives each of them, and paths that begin with `~`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from keys.errors import Unavailable, UsageError


def user_path(kind: Literal["state", "cache", "data", "config"]) -> Path:
    """The directory of calyx in the user's state, cache, data or configuration. Raises: Unavailable
    (`no_home_directory`).
    """
    import platformdirs

    with _known(f"XDG_{kind.upper()}_HOME"):
        return Path(getattr(platformdirs, f"user_{kind}_dir")("calyx"))


def home_directory() -> Path:
    """The user's home directory. Raises: Unavailable (`no_home_directory`)."""
    with _known("HOME"):
        return Path.home()


def expand(path: Path) -> Path:
    """A path that may begin with `~` or `~somebody`. Raises: UsageError (`no_such_user`); Unavailable
    (`no_home_directory`).
    """
    first = path.parts[0] if path.parts else ""
    if first == "~":
        return home_directory().joinpath(*path.parts[1:])
    try:
        return path.expanduser()
    except RuntimeError:
        text = f"there is no user whose home directory {first} would be"
        raise UsageError("no_such_user", text, hint="write ./ before a name that begins with ~") from None


@contextmanager
def _known(variable: str) -> Iterator[None]:
    # A container may run a process as a number that stands in no list of users.
    try:
        yield
    except RuntimeError:
        hint = "set HOME" if variable == "HOME" else f"set HOME or {variable}, to an absolute path"
        text = "nothing says which directory is this user's own: HOME is not set, and the system does not know the user"
        raise Unavailable("no_home_directory", text, hint=hint) from None
