"""A remote home in one process: the client here, its server in a thread, honest or not, and a socket pair between."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from station import Station

from executor.remote.address import parse_address
from executor.remote.client import Limits, Transport
from executor.remote.frames import Channel
from executor.remote.home import RemoteHome
from executor.remote.server import Server
from keys.errors import Refused
from ledger.head import Head
from ledger.objects import DirectoryObjects
from ledger.sqlite.store import SqliteStore
from ledger.store import Reader, Store, Tip
from policies.registrar import Registrar
from policies.submitter import Submitter

ADDRESS = "ssh://station.example/srv/calyx"
PATIENT = Limits(first_s=60, answer_s=60, submit_s=60, close_s=60)
IMPATIENT = Limits(first_s=0.2, answer_s=0.2, submit_s=0.2, close_s=0.2)
PATIENCE_S = 60

Serve = Callable[[Channel], None]
"""The other side of one connection, until it ends."""


class Lying:
    """A reader that gives what another one gives, but for what a test replaces."""

    def __init__(self, true: Reader) -> None:
        self.true = true

    def tip(self) -> Tip:
        return self.true.tip()

    def head(self) -> Head:
        return self.tip().head

    def checkpoint(self) -> bytes:
        return self.tip().checkpoint

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return self.true.read(start, stop)

    def leaf(self, seq: int) -> str:
        return self.true.leaf(seq)

    def node(self, level: int, index: int) -> bytes:
        return self.true.node(level, index)


@dataclass
class Pair:
    """`executor.remote.client.Transport` to a thread of this process. `failed`: what the thread ended with."""

    serve: Serve
    failed: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.channel = Channel(self._ours.fileno(), self._ours.fileno())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        descriptor = self._theirs.fileno()
        try:
            self.serve(Channel(descriptor, descriptor))
        except BaseException as error:  # noqa: BLE001  # the test looks at it
            self.failed.append(error)
        finally:
            self._theirs.close()

    def close(self) -> str:
        self._ours.close()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the server goes on without its client"
        return ""


@dataclass
class StationDesk:
    """The host's side of a station: what it gives out may be replaced by a lie. `root`: of the copy that it serves."""

    station: Station
    root: Path
    registrars: bool = True
    reader_of: Callable[[Reader], Reader] = lambda reader: reader
    submitter_of: Callable[[Submitter], Submitter] = lambda submitter: submitter
    _opened: ExitStack = field(default_factory=ExitStack)
    _store: Store | None = None

    def store(self) -> Store:
        """The ledger's file, opened in the server's thread."""
        if self._store is None:
            self._store = self._opened.enter_context(SqliteStore.open(self.root / "ledger.db"))
        return self._store

    def reader(self) -> Reader:
        return self.reader_of(self.store())

    def objects(self) -> DirectoryObjects:
        return DirectoryObjects(self.root / "objects")

    def registrar(self, *, accept_clock: bool) -> Submitter:
        if not self.registrars:
            raise Refused("read_only", "this home is served for reading only")
        station = self.station
        return self.submitter_of(
            Registrar(
                self.store(),
                self.objects(),
                station.log_key,
                None,
                clock=station.clock,
                random=station.random,
                accept_clock=accept_clock,
            )
        )

    def close(self) -> None:
        """Let the file go."""
        self._opened.close()


@dataclass
class Remote:
    """A person on another machine than the station's. `serve`: who answers their next connection; `said`: the server's
    log; `told`: what the person was told.
    """

    station: Station
    limits: Limits = PATIENT
    said: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.serve: Serve = self.honest()

    def honest(self, root: Path | None = None, **lies: object) -> Serve:
        """A server of the station, or of a copy of it in `root`; `lies` are of `StationDesk`."""

        def serve(channel: Channel) -> None:
            desk = StationDesk(self.station, root or self.station.root, **lies)  # type: ignore[arg-type]  # the test's
            try:
                Server(channel, desk, self.said.append, idle_s=PATIENCE_S, frame_s=PATIENCE_S).run()
            finally:
                desk.close()

        return serve

    def note_asked(self, root: Path | None = None) -> list[tuple[int, int | None]]:
        """Serve as `honest` does from now on, and note which records readers ask for."""
        asked: list[tuple[int, int | None]] = []

        class Noting(Lying):
            def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
                asked.append((start, stop))
                return super().read(start, stop)

        self.serve = self.honest(root, reader_of=Noting)
        return asked

    def connect(self) -> Transport:
        """A new connection, as ssh would make it."""
        pair = Pair(self.serve)
        self.pairs.append(pair)
        return pair

    def home(self, address: str = ADDRESS) -> RemoteHome:
        """The home as a command opens it; use it as a context."""
        return RemoteHome(parse_address(address), address, self.connect, self.told.append, self.limits)

    def open_registrar(self, home: RemoteHome) -> Submitter:
        """Who submits from this person's machine, by the station's clock."""
        return home.open_registrar(self.station.clock)


def copy_of(station: Station, root: Path) -> Path:
    """A copy of the station's ledger and objects as they are now."""
    root.mkdir()
    station.store.backup(root / "ledger.db")
    shutil.copytree(station.root / "objects", root / "objects")
    return root
