"""The home as a program uses it: doors to the ledger, the objects, the keys and the settings that lie in it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, overload

from executor.homes.key_file import Passphrase, find_enrolled, open_signer
from executor.homes.layout import HomeLayout
from executor.homes.reserve import Reserve
from executor.homes.settings import Settings, load_settings, store_settings
from executor.user_paths import expand, home_directory, user_path
from keys.ahead import usable_cores
from keys.errors import Unavailable
from keys.principals import Principal, TrustRoot
from keys.signer import FileSigner
from keys.words import are, counted
from ledger.durable import make_directory
from ledger.log_key import load_log_key
from ledger.memory import HeadMemory
from ledger.objects import DirectoryObjects, ObjectStore
from ledger.reader import open_reader
from ledger.sqlite.file import is_there, ledger_missing
from ledger.store import Reader
from policies.fold.scratch import Scratch
from policies.fold.snapshots import Snapshots
from policies.fold.state import State
from policies.pin import Pin
from policies.registrar import Registrar, open_registrar
from policies.replay import Observer, Replay
from policies.submitter import Clock, Submitter

if TYPE_CHECKING:
    from executor.trees.workplace import Workplace

HOME_VARIABLE: Final = "CALYX_HOME"


def system_clock() -> int:
    """Seconds since 1970, UTC, whole."""
    return int(time.time())


class Home(HomeLayout):
    """One home. As a context it closes what it opened. Use it in the thread that made it. `root`: as `HomeLayout` has
    it.
    """

    def __init__(self, root: Path | None) -> None:
        super().__init__(root)
        self._opened = ExitStack()
        self._scratch: Scratch | None = None

    def workplace(self, principal: str) -> Workplace:
        """Where the process of a machine principal works things out. For who holds its lock, or its turn."""
        from executor.trees.workplace import Workplace

        return Workplace(self.run / "work" / principal)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every reader and registrar that this home opened."""
        self._opened.close()

    def make(self) -> None:
        """Make the directories, mode 0700, where they are missing. Raises: Unavailable (`home_write_failed`)."""
        try:
            for directory in (self.root, self.keys, self.objects, self.run):
                make_directory(directory, 0o700)
            # An existing directory keeps its contents and loses its openness: private keys are about to lie in it.
            self.root.chmod(0o700)
            self.keys.chmod(0o700)
        except OSError as error:
            raise Unavailable(
                "home_write_failed", f"cannot make {self.root}: {error.strerror}", hint="choose another --home"
            ) from None

    def pin(self) -> Pin:
        """Where this user remembers the head of this home's ledger."""
        memory = HeadMemory(user_path("state") / "heads")
        return Pin(memory, str(self.root.resolve()), os.path.abspath(self.root))  # noqa: PTH100  # links unresolved

    def reserve(self) -> Reserve:
        """The reserve for a full disk."""
        return Reserve(self.root / "reserve")

    def open_for_safety(self, clock: Clock | None = None, *, accept_clock: bool = False) -> Submitter:
        """As `open_registrar`, for what must work on a full disk, with the ledger read to its end: SQLite needs some
        room to open one, and what is remembered of it may lie on the same disk.

        Raises: as `open_registrar`, and as `policies.submitter.Submitter.sync`.
        """
        try:
            return self._open_and_read(clock, accept_clock)
        except Unavailable as error:
            # A key that is not here would not be here with more room.
            if error.code == "key_missing" or self._root is None:
                raise
            if not self.reserve().low() or not self.reserve().give_up():
                raise
            return self._open_and_read(clock, accept_clock)

    def _open_and_read(self, clock: Clock | None, accept_clock: bool) -> Submitter:
        submitter = self.open_registrar(clock, accept_clock)
        submitter.sync()
        return submitter

    def open_store(self) -> Reader:
        """The ledger, for reading. Raises: Unavailable (`ledger_missing`, `ledger_unreadable`); as
        `ledger.reader.open_reader`.
        """
        if not is_there(self.ledger):
            raise self._missing()
        return self._opened.enter_context(open_reader(self.ledger))

    def open_objects(self) -> ObjectStore:
        """The objects. Nothing is opened before it is read."""
        return DirectoryObjects(self.objects)

    def open_replay(self, observer: Observer | None = None) -> Replay:
        """A reader of the ledger that verifies all of it, or what is new since this user last did, and remembers its
        head; needs no key. `observer`: sees every entry, so all of it is verified. Raises: as `open_store`.
        """
        pin = self.pin()
        # Whoever observes wants to see every entry, and a snapshot shows none of those before it.
        snapshots = None if observer is not None else self._folds(pin)
        replay = Replay(
            self._open_reader(),
            self.open_objects(),
            pin,
            observer,
            snapshots,
            self._place_scratch(),
            jobs=usable_cores(),
        )
        self._opened.callback(self._keep, replay)
        return replay

    def _open_reader(self) -> Reader:
        """The ledger for whoever replays it."""
        return self.open_store()

    @staticmethod
    def _keep(reader: Replay | Submitter) -> None:
        from executor.homes.snapshots import keep_fold

        keep_fold(reader, system_clock())

    def _place_scratch(self) -> Scratch:
        from executor.homes.snapshots import scratch_place

        if self._scratch is None:
            # What must be taken back is taken back on a full disk, too.
            self._scratch = self._opened.enter_context(scratch_place(spill=True))
        return self._scratch

    def _folds(self, pin: Pin) -> Snapshots:
        from executor.homes.snapshots import folds_of

        return folds_of(pin, self._place_scratch())

    @overload
    def open_registrar(self, clock: Clock | None = None, accept_clock: bool = False) -> Submitter: ...

    @overload
    def open_registrar(
        self, clock: Clock | None = None, accept_clock: bool = False, *, create: Literal[True]
    ) -> Registrar: ...

    def open_registrar(
        self, clock: Clock | None = None, accept_clock: bool = False, *, create: bool = False
    ) -> Submitter:
        """Whoever appends to this ledger: needs the log key. `clock`: None for this machine's. `create`: make the empty
        ledger file where there is none.

        Raises: Unavailable (`ledger_missing`); Refused and Unavailable of the log key; as
        `policies.registrar.open_registrar`.
        """
        if create:
            return self._open_registrar(clock or system_clock, accept_clock=accept_clock, create=True)
        return self._open_submitter(clock or system_clock, accept_clock=accept_clock)

    def _open_submitter(self, clock: Clock, *, accept_clock: bool) -> Submitter:
        return self._open_registrar(clock, accept_clock=accept_clock, create=False)

    def _open_registrar(self, clock: Clock, *, accept_clock: bool, create: bool) -> Registrar:
        if not create and not is_there(self.ledger):
            raise self._missing()
        log_key = load_log_key(self.log_key)
        pin = self.pin()
        registrar = open_registrar(
            self.ledger,
            self.open_objects(),
            log_key,
            pin,
            clock=clock,
            random=os.urandom,
            accept_clock=accept_clock,
            reserve=self.reserve(),
            snapshots=self._folds(pin),
            jobs=usable_cores(),
            create=create,
        )
        opened = self._opened.enter_context(registrar)
        self._opened.callback(self._keep, opened)
        return opened

    def _missing(self) -> Unavailable:
        remembered = self.pin().load()
        if remembered is None:
            return ledger_missing(self.ledger)
        # Another `init` would forget the ledger that is lost.
        return Unavailable(
            "ledger_missing",
            f"the ledger is gone from {self.ledger}; "
            f"{counted(remembered.size, 'entry')} of it {are(remembered.size)} remembered",
            hint="restore it from a copy; calyx init would begin another one",
        )

    def running(self, principals: Sequence[str]) -> list[str] | None:
        """Those machine principals whose process runs on this home now; None where that cannot be seen from here."""
        from executor.process_lock import ProcessLock

        return [name for name in principals if ProcessLock(self.lock_path(name), name).held()]

    def find_key(self, principal: str) -> Path | None:
        """The file with a principal's private key: in the home, else where the settings say; None when neither is."""
        inside = self.key_path(principal)
        if inside.exists():
            return inside
        named = self.load_settings().keys.get(principal)
        return None if named is None else Path(named)

    def load_signer(
        self,
        principal_id: str,
        state: State,
        passphrase: Passphrase | None = None,
        path: Path | None = None,
        proposed: TrustRoot | None = None,
    ) -> FileSigner:
        """The signer of one enrolled principal. `path`: a key file instead of the one that `find_key` finds.
        `proposed`: a trust root that is not in force yet, whose keys may cosign it.

        Raises: Refused (`unknown_principal`, `key_not_enrolled`); Unavailable (`key_missing`); as
        `keys.openssh.load_private_key`.
        """
        roots = [] if state.trust is None else [state.trust, *([] if proposed is None else [proposed])]
        principal = find_enrolled(roots, principal_id)
        path = path or self.find_key(principal_id)
        if path is None:
            raise Unavailable(
                "key_missing",
                f"there is no key file of {principal_id} at {self.key_path(principal_id)}",
                hint="name it with --key" if principal.kind == "human" else "put it there, mode 0600",
            )
        return open_signer(roots, principal, path, passphrase)

    def load_settings(self) -> Settings:
        """The settings; none is as good as empty ones. Raises: Refused (`bad_settings`)."""
        return load_settings(self.settings)

    def store_settings(self, settings: Settings) -> None:
        """Replace the settings, durable on return. Raises: Unavailable (`home_write_failed`)."""
        store_settings(self.settings, settings)

    def find_me(self, state: State) -> Principal:
        """The human who sits here: whom the settings name; where they name nobody, the only human with a key here: in
        the home, the ssh-agent or `~/.ssh`. No private key is opened.

        Raises: UsageError (`who_are_you`).
        """
        from executor.homes.find_signer import find_me
        from executor.homes.surroundings import look_around
        from keys.agent_socket import connect_agent

        around = look_around(os.environ, home_directory(), connect_agent, lambda _: None)
        roots = [] if state.trust is None else [state.trust]
        return find_me(roots, self.load_settings().me, self.find_key, around)


def find_home(option: Path | None, environment: Mapping[str, str]) -> Path:
    """The home's directory: `option`, else CALYX_HOME, else the user's data directory for calyx."""
    if option is not None:
        return expand(option).absolute()
    named = environment.get(HOME_VARIABLE)
    if named:
        return expand(Path(named)).absolute()
    return user_path("data").absolute()
