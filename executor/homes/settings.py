"""What a home knows of the person at it, in a file that a person may remove."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from keys.canonical import MAX_BYTES, parse_json
from keys.errors import FormatError, Refused, Unavailable
from keys.regular import read_regular
from keys.values import Ident, Model, One
from ledger.durable import replace_file


class Settings(Model):
    """What a home knows of the person at it. `me`: principal id. `keys`: principal id -> path of a key file that lies
    outside the home.
    """

    version: One
    me: Ident | None
    keys: Annotated[dict[Ident, Annotated[str, Field(min_length=1, max_length=4096)]], Field(max_length=64)]


NO_SETTINGS: Final = Settings(version=1, me=None, keys={})


def load_settings(path: Path) -> Settings:
    """The settings in a file; none is as good as empty ones. Raises: Refused (`bad_settings`)."""
    try:
        return Settings.from_json(parse_json(read_regular(path, MAX_BYTES)), what="settings")
    except FileNotFoundError:
        return NO_SETTINGS
    except (OSError, FormatError) as error:
        raise Refused("bad_settings", f"{path} cannot be used: {error}", hint="remove it, or make it again") from None


def store_settings(path: Path, settings: Settings) -> None:
    """Replace the settings in a file, durable on return. Raises: Unavailable (`home_write_failed`)."""
    try:
        replace_file(path, settings.canonical(), 0o600)
    except OSError as error:
        raise Unavailable("home_write_failed", f"cannot write {path}: {error.strerror}") from None
