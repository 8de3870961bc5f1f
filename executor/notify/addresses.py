"""Where channels lead: `notify.yaml` in the home, mode 0600. What stands in it is secret, and nothing here repeats it.

A map of channels to lists of addresses as apprise writes them, such as `oncall: [mailtos://…, ntfys://…]`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, NoReturn

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from keys.errors import FormatError, Refused
from keys.values import Ident, Seq
from policies.yaml_file import load_yaml

MAX_FILE: Final = 64 * 1024
MAX_CHANNELS: Final = 64
MAX_ADDRESSES: Final = 16

_Url = Annotated[str, Field(max_length=2048, pattern=r"^[a-z][a-z0-9+.-]{1,31}://[!-~]+$")]
_Book = Annotated[
    dict[Ident, Annotated[Seq[_Url], Field(min_length=1, max_length=MAX_ADDRESSES)]], Field(max_length=MAX_CHANNELS)
]
_BOOK: Final[TypeAdapter[dict[str, tuple[str, ...]]]] = TypeAdapter(_Book, config=ConfigDict(strict=True))
HINT: Final = "docs/NOTIFICATIONS.md shows one"


@dataclass(frozen=True, slots=True)
class Address:
    """One address of a channel. Its repr does not show it."""

    url: str = field(repr=False)

    @property
    def tag(self) -> str:
        """16 hex digits that tell addresses apart where the address itself must not stand."""
        return sha256(self.url.encode()).hexdigest()[:16]


Book = Mapping[str, tuple[Address, ...]]
"""Channel -> addresses."""


class AddressBook:
    """The addresses of a file that may change while it is used. `path`: as `load_book`."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._seen: tuple[int, ...] | None = None
        self._book: Book = {}

    def load(self) -> Book:
        """The channels as the file has them now; read again only when it changed. Raises: as `load_book`."""
        try:
            status = self._path.lstat()
            seen: tuple[int, ...] = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        except FileNotFoundError:
            seen = ()
        except OSError as error:
            _refuse(self._path, f"it cannot be looked at: {error.strerror}")
        if seen != self._seen:
            self._book = load_book(self._path)
            self._seen = seen
        return self._book


def load_book(path: Path) -> Book:
    """Read the addresses of every channel; none where there is no file.

    Raises: Refused (`bad_addresses`, `addresses_open`) that names the file, the line or the channel, never content.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        _refuse(path, f"it cannot be opened: {error.strerror}")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            _refuse(path, "it is not a file")
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise Refused(
                "addresses_open",
                f"{path} must belong to you and be readable by nobody else, for addresses hold passwords",
                hint=f"chmod 600 {path}",
            )
        data = os.read(descriptor, MAX_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_FILE:
        _refuse(path, f"it is over {MAX_FILE} bytes")
    return _parse(path, data)


def _parse(path: Path, data: bytes) -> Book:
    # Whatever a parser says of the text might quote it, so only the place is taken from its errors.
    try:
        value = load_yaml(data.decode("utf-8"))
        book = _BOOK.validate_python(value)
    except UnicodeDecodeError:
        _refuse(path, "it is not UTF-8")
    except FormatError as error:
        _refuse(path, f"line {error.fields.get('line', 1)} is not plain YAML")
    except ValidationError as error:
        place = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
        numbers = [part + 1 for part in place if isinstance(part, int)]
        where = "a channel" if not numbers else f"the address {numbers[0]} of a channel"
        if numbers and isinstance(place[0], str) and _is_channel(place[0]):
            where = f"the address {numbers[0]} of {place[0]}"
        _refuse(path, f"{where} is wrong; a channel is an id, and its addresses are a list such as [ntfys://TOPIC]")
    return {channel: tuple(map(Address, urls)) for channel, urls in book.items()}


def _is_channel(text: str) -> bool:
    """Whether a key is a channel's name: an address that slipped into its place is not repeated."""
    try:
        TypeAdapter(Ident).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def _refuse(path: Path, why: str) -> NoReturn:
    raise Refused("bad_addresses", f"{path} cannot be used: {why}", hint=HINT) from None
