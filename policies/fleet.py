"""The fleet: which machines a target name stands for, and how each is reloaded, probed and measured.

A fleet body is an object (canonical JSON of `Fleet`); the `fleet` statement carries its hash. A signed name is
therefore a signed machine: address, host key, root and command lines are all inside what the operators' quorum signed.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from keys.canonical import parse_json
from keys.errors import FormatError
from keys.values import Ident, Model, Seq, fold_id

MAX_FLEET_BYTES: Final = 64 * 1024 * 1024

Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One argument, path or address: no control characters."""
Url: TypeAlias = Annotated[str, Field(max_length=1024, pattern=r"^https?://[!-~]+$")]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=366 * 86_400)]


def _plain_path(path: str) -> str:
    # One place has one spelling, so that two instances cannot share it under two.
    if not {"", ".", ".."}.isdisjoint(path[1:].split("/")):
        raise ValueError("not a plain absolute path, without `.`, `..`, a double slash or one at its end")
    return path


AbsolutePath: TypeAlias = Annotated[
    str, Field(max_length=1024, pattern=r"^/[^\x00-\x1f\x7f]*$"), AfterValidator(_plain_path)
]
RelativePath: TypeAlias = Annotated[str, Field(max_length=1024, pattern=r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")]


class Process(Model):
    """The service process of an instance. It is started with the release as working directory, in a session of its own.

    `env`: the whole environment besides PATH and LANG. `user`: account it runs as, or null for the executor's own.
    `stop_s`: seconds between SIGTERM and SIGKILL.
    """

    argv: Annotated[Seq[Word], Field(min_length=1, max_length=64)]
    env: Annotated[dict[Word, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] = {}
    user: Ident | None = None
    stop_s: Seconds = 10


class Reload(Model):
    """How an instance takes up a new release: `restart` its process, or run a `command` (argv, no shell)."""

    kind: Literal["restart", "command"] = "restart"
    argv: Annotated[Seq[Word], Field(max_length=64)] = ()
    timeout_s: Seconds = 30


class Probe(Model):
    """An HTTP GET that must answer `status` within `timeout_s` before an instance counts as applied or restored."""

    url: Url
    status: Annotated[int, Field(ge=100, le=599)] = 200
    timeout_s: Seconds = 10


class Counters(Model):
    """A JSON document with two integer members that only grow while a process lives: requests served and errors."""

    url: Url
    requests: Word = "requests"
    errors: Word = "errors"


class Metrics(Model):
    """Where an instance is measured: request counters over HTTP, and its process's CPU and memory through the OS."""

    counters: Counters | None = None


class Hooks(Model):
    """Names of hooks in the policy's allowlist; null for none."""

    drain: Ident | None = None
    undrain: Ident | None = None


class Instance(Model):
    """One place that runs a release.

    `address`: `local`, or `user@host[:port]` reached with OpenSSH, then `host_key` pins its public key line.
    `root`: directory that holds `current`, `releases/` and `shared/`. `shared`: paths in a release that lead into
    `shared/`.
    """

    name: Ident
    address: Word = "local"
    host_key: Annotated[str, Field(max_length=1024)] | None = None
    root: AbsolutePath
    labels: Annotated[dict[Ident, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = {}
    reload: Reload = Reload()
    probe: Probe | None = None
    metrics: Metrics = Metrics()
    process: Process | None = None
    shared: Annotated[Seq[RelativePath], Field(max_length=64)] = ()
    hooks: Hooks = Hooks()


class TesFile(Model):
    """The station's metrics CSV: a header line, then rows with a `timestamp` and a `tes` column (score 0 to 100)."""

    path: AbsolutePath
    timestamp: Word = "timestamp"
    tes: Word = "tes"


class Target(Model):
    """The instances that one target name stands for. `max_unavailable`: how many may be down at once going forward."""

    instances: Annotated[Seq[Instance], Field(min_length=1, max_length=100_000)]
    max_unavailable: Annotated[int, Field(ge=1, le=100_000)] = 1
    tes: TesFile | None = None

    @model_validator(mode="after")
    def _names_and_roots_are_unique(self) -> Self:
        names = {fold_id(instance.name) for instance in self.instances}
        if len(names) != len(self.instances):
            raise ValueError("two instances of a target share a name")
        return self


class Fleet(Model):
    """Every target and its instances."""

    targets: Annotated[dict[Ident, Target], Field(max_length=1024)]

    @model_validator(mode="after")
    def _places_are_unique(self) -> Self:
        if len({fold_id(name) for name in self.targets}) != len(self.targets):
            raise ValueError("two targets share a name")
        places = [(i.address, i.root) for target in self.targets.values() for i in target.instances]
        if len(set(places)) != len(places):
            raise ValueError("two instances share an address and a root")
        return self


def parse_fleet(data: bytes) -> Fleet:
    """Parse a fleet body. Every field must be present: the bytes are those that `Fleet.canonical` writes.

    Raises: FormatError.
    """
    fleet = Fleet.from_json(parse_json(data, limit=MAX_FLEET_BYTES), what="fleet")
    if fleet.canonical() != data:
        raise FormatError("a fleet body must state every field", code="not_canonical")
    return fleet
