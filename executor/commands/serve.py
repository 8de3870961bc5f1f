"""`calyx serve`: the host's side of `--home ssh://...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import HomeOption, opened
from executor.commands.terminal import note
from keys.errors import Refused, UsageError

if TYPE_CHECKING:
    from executor.homes.home import Home
    from ledger.objects import DirectoryObjects
    from ledger.store import Reader
    from policies.submitter import Submitter


def serve(
    stdio: Annotated[bool, typer.Option("--stdio", help="Talk on standard input and output; the only way.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Take no statements; then no log key is needed.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """Serve this home to one calyx on another machine, over ssh.

    Example: calyx serve --stdio --home /srv/calyx

    The other machine starts it with --home ssh://HOST/srv/calyx, verifies all that it is told, and signs with its own
    keys. In ~/.ssh/authorized_keys here, restrict,command="calyx serve --stdio --home /srv/calyx" before a key lets
    that key do this and nothing else. Ends when standard input does.
    """
    from executor.remote.frames import Channel
    from executor.remote.server import Server

    if not stdio:
        raise UsageError("no_transport", "say how to talk to the other calyx", hint="calyx serve --stdio")
    if sys.stdin.isatty() or sys.stdout.isatty():
        raise UsageError(
            "no_transport", "the other calyx talks here, and nobody types", hint="calyx --home ssh://HOST/DIR starts it"
        )
    with opened(home, here=True) as place, _own_stdio() as (source, sink):
        Server(Channel(source, sink), _HomeDesk(place, read_only=read_only), note).run()


class _HomeDesk:
    """A home as a server uses it; each thing is opened when it is first asked for."""

    def __init__(self, home: Home, *, read_only: bool) -> None:
        from ledger.objects import DirectoryObjects

        self._home = home
        self._read_only = read_only
        self._reader: Reader | None = None
        self._objects = DirectoryObjects(home.objects)
        self._registrars: dict[bool, Submitter] = {}

    def reader(self) -> Reader:
        if self._reader is None:
            self._reader = self._home.open_store()
        return self._reader

    def objects(self) -> DirectoryObjects:
        return self._objects

    def registrar(self, *, accept_clock: bool) -> Submitter:
        if self._read_only:
            raise Refused("read_only", "this home is served for reading only", hint="sign on its own machine")
        if accept_clock not in self._registrars:
            self._registrars[accept_clock] = self._home.open_registrar(accept_clock=accept_clock)
        return self._registrars[accept_clock]


@contextmanager
def _own_stdio() -> Iterator[tuple[int, int]]:
    """Standard input and output for the protocol alone: whatever else prints, prints to standard error."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield source, sink
    finally:
        os.close(source)
        os.close(sink)
