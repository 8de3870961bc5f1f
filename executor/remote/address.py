"""Addresses of homes on other machines.

    ssh://[USER@]HOST[:PORT]/PATH

HOST is what `ssh` is given: a name, also one of ~/.ssh/config, an IPv4 address, or an IPv6 address in brackets. PATH is
the home's absolute path there. Nothing is escaped with %, and there is no password, query or fragment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv6Address
from typing import Final

from keys.errors import UsageError

SCHEME: Final = "ssh://"
MAX_ADDRESS: Final = 1_024

_AUTHORITY: Final = re.compile(
    # None begins with a dash, so that ssh cannot take one for an option.
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._+-]{0,63})@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]{0,252}))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?",
    re.ASCII,
)
_PATH: Final = re.compile(r"(?:/[^/]+)+", re.ASCII)
_NOT_IN_PATH: Final = frozenset("%?#\\")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a home is. `host` without brackets; `port` None for ssh's own choice; `path` absolute and plain."""

    user: str | None
    host: str
    port: int | None
    path: str

    def __str__(self) -> str:
        return format_address(self)

    @property
    def destination(self) -> str:
        """What `ssh` is given: `[USER@]HOST`."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def identity(self) -> str:
        """The address under which a head is remembered: host names are the same in any case."""
        return format_address(replace(self, host=self.host.lower()))


def is_address(text: str) -> bool:
    """Whether a home is named by an address, and not by a directory."""
    return text.lower().startswith(SCHEME)


def parse_address(text: str) -> Address:
    """Read an address of at most 1,024 characters. One slash at the end is left out.

    Raises: UsageError (`bad_address`).
    """
    if len(text) > MAX_ADDRESS:
        raise _bad(f"it is over {MAX_ADDRESS} characters")
    if not text.startswith(SCHEME):
        raise _bad(f"it does not begin with {SCHEME}")
    authority, slash, rest = text.removeprefix(SCHEME).partition("/")
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise _bad("user, host or port is not in its plain spelling")
    port = None if found["port"] is None else int(found["port"])
    if port is not None and port > 65_535:
        raise _bad("the port is over 65535")
    if found["six"] is not None:
        try:
            IPv6Address(found["six"])
        except AddressValueError:
            raise _bad("what stands in brackets is no IPv6 address") from None
    return Address(found["user"], found["six"] or found["host"], port, _parse_path(slash + rest))


def format_address(address: Address) -> str:
    """The address as text. Inverse of `parse_address`."""
    user = "" if address.user is None else f"{address.user}@"
    host = f"[{address.host}]" if ":" in address.host else address.host
    port = "" if address.port is None else f":{address.port}"
    return f"{SCHEME}{user}{host}{port}{address.path}"


def _parse_path(text: str) -> str:
    path = text.removesuffix("/")
    if not _PATH.fullmatch(path):
        raise _bad("after the host comes the absolute path of a directory")
    if not (path.isascii() and path.isprintable()) or not _NOT_IN_PATH.isdisjoint(path):
        raise _bad("its path has a character other than plain ASCII, or one of % ? # \\")
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise _bad("its path has a step . or ..")
    return path


def _bad(why: str) -> UsageError:
    return UsageError("bad_address", f"the home's address cannot be used: {why}", hint="ssh://[user@]host[:port]/path")
