"""The home: the directory that holds a ledger and what goes with it on this machine.

    ledger.db          the ledger
    objects/           what is too large for an entry
    keys/<id>.key      private keys of principals that work here, each mode 0600, with `<id>.key.pub` beside it
    keys/log.key       the log's key: whoever appends here needs it, a reader does not
    settings.json      who sits here, and where that person keeps their own key
    notify.yaml        where notifications go, mode 0600
    run/               heartbeats, process ids, the notifier's outbox: advice, never the truth
    run/work/<id>/     where a principal's process works out what it throws away again

The directory has mode 0700. The remembered head lies elsewhere, in the user's state directory (`ledger.memory`).
"""

from __future__ import annotations

from pathlib import Path

from keys.errors import UsageError


class HomeLayout:
    """Where everything of a home lies. `root`: its directory, None for a home on another machine
    (`executor.remote.home`).
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root

    @property
    def name(self) -> str:
        """What a person calls it."""
        return str(self.root)

    @property
    def root(self) -> Path:
        """The directory. Raises: UsageError (`home_not_here`)."""
        if self._root is None:
            raise UsageError(
                "home_not_here",
                f"this works only on the machine of the home, and {self.name} is on another one",
                hint="run it there, with --home and the directory",
            )
        return self._root

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.root / "ledger.db"

    @property
    def objects(self) -> Path:
        """The objects' directory."""
        return self.root / "objects"

    @property
    def keys(self) -> Path:
        """The directory of the keys that are kept here."""
        return self.root / "keys"

    @property
    def log_key(self) -> Path:
        """The log key's file."""
        return self.keys / "log.key"

    @property
    def settings(self) -> Path:
        """The settings' file."""
        return self.root / "settings.json"

    @property
    def addresses(self) -> Path:
        """The file that says where the policy's channels lead."""
        return self.root / "notify.yaml"

    @property
    def outbox(self) -> Path:
        """The notifier's file; it may be deleted."""
        return self.run / "outbox.db"

    @property
    def run(self) -> Path:
        """The directory of locks and advice."""
        return self.root / "run"

    def key_path(self, principal: str) -> Path:
        """Where the home keeps a principal's private key, if it keeps it."""
        return self.keys / f"{principal}.key"

    def lock_path(self, principal: str) -> Path:
        """The lock that the process of a machine principal holds while it runs on this home."""
        return self.run / f"{principal}.lock"
