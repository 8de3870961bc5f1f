"""The fleet: which machines a target name stands for, and how each is reloaded, probed and measured.

A fleet body is an object (canonical JSON of `Fleet`); the `fleet` statement carries its hash. A signed name is
therefore a signed machine: address, host key, root and command lines are all inside what the operators' quorum signed.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from keys.canonical import parse_json
from keys.errors import FormatError
from keys.principals import PublicLine
from keys.values import Ident, Model, Seq, fold_id, in_words

MAX_FLEET_BYTES: Final = 64 * 1024 * 1024
CANARY_LABEL: Final = "canary"

_WORD: Final = in_words(r"^[^\x00-\x1f\x7f]*$", "text without control characters")
_URL: Final = in_words(r"^https?://[!-~]+$", "an address that begins with http:// or https://, without spaces")
_ABSOLUTE: Final = in_words(r"^/[^\x00-\x1f\x7f]*$", "an absolute path")
RELATIVE: Final = in_words(r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$", "a path that is not absolute")
_ENV_NAME: Final = in_words(r"^[A-Za-z_][A-Za-z0-9_]*$", "a variable's name: letters, digits and underscores")
_ENV_VALUE: Final = in_words(r"^[^\x00-\x08\x0a-\x1f\x7f]*$", "text without control characters")

Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=1024, pattern=_WORD)]
"""One argument or name: no control characters."""
Url: TypeAlias = Annotated[str, Field(max_length=1024, pattern=_URL)]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=366 * 86_400)]


_LABEL: Final = "[a-z0-9][a-z0-9-]{0,62}"
ADDRESS: Final = in_words(
    rf"^(local|[A-Za-z_][A-Za-z0-9_.-]{{0,31}}@{_LABEL}(\.{_LABEL}){{0,15}}(:[1-9][0-9]{{0,4}})?)$",
    "local, or user@host[:port]",
)
"""`local`, or user, host and perhaps port: no part begins with a dash, which a program would take for an option."""


def _one_port(address: str) -> str:
    port = address.partition(":")[2]
    # One place has one spelling, so that two instances cannot share it under two.
    if port and (int(port) > 65_535 or port == "22"):
        raise ValueError("a port is at most 65535, and 22 is left out")
    return address


def _plain_path(path: str) -> str:
    if not {"", ".", ".."}.isdisjoint(path.removeprefix("/").split("/")):
        raise ValueError("not a plain path, without `.`, `..`, a double slash or one at its end")
    return path


def _ed25519_line(line: str) -> str:
    if not line.startswith("ssh-ed25519 "):
        raise ValueError("a host key is of the type ssh-ed25519")
    return line


Address: TypeAlias = Annotated[str, Field(max_length=1024, pattern=ADDRESS), AfterValidator(_one_port)]
HostKey: TypeAlias = Annotated[PublicLine, AfterValidator(_ed25519_line)]
"""The public key line of an OpenSSH server, without comment. Its type is `ssh-ed25519`; other types are not taken."""


AbsolutePath: TypeAlias = Annotated[str, Field(max_length=1024, pattern=_ABSOLUTE), AfterValidator(_plain_path)]
RelativePath: TypeAlias = Annotated[str, Field(max_length=1024, pattern=RELATIVE), AfterValidator(_plain_path)]
EnvName: TypeAlias = Annotated[str, Field(max_length=128, pattern=_ENV_NAME)]
EnvValue: TypeAlias = Annotated[str, Field(max_length=4096, pattern=_ENV_VALUE)]
"""The value of an environment variable: no control characters but the tab."""
Timeout: TypeAlias = Annotated[Seconds, Field(ge=1)]


class Process(Model):
    """The service process of an instance. It is started with the release as working directory, in a session of its own.

    `env`: the whole environment besides PATH and LANG. `user`: account it runs as, or null for the executor's own.
    `stop_s`: seconds between SIGTERM and SIGKILL.
    """

    argv: Annotated[Seq[Word], Field(min_length=1, max_length=64)]
    env: Annotated[dict[EnvName, EnvValue], Field(max_length=64)] = {}
    user: Ident | None = None
    stop_s: Seconds = 10


class Reload(Model):
    """How an instance takes up a new release: `restart` its process, or run a `command` (argv, no shell).

    `argv` stands with a command, and only there.
    """

    kind: Literal["restart", "command"] = "restart"
    argv: Annotated[Seq[Word], Field(max_length=64)] = ()
    timeout_s: Timeout = 30

    @model_validator(mode="after")
    def _argv_is_of_a_command(self) -> Self:
        if (self.kind == "command") != bool(self.argv):
            raise ValueError("a command has argv, and a restart has none")
        return self


class Probe(Model):
    """What an instance must pass within `timeout_s` before it counts as applied or restored: an HTTP GET of `url` that
    answers `status`, the command that the policy allows under the name `hook`, or both.

    `status` is 200 where there is no `url`.
    """

    url: Url | None = None
    status: Annotated[int, Field(ge=100, le=599)] = 200
    hook: Ident | None = None
    timeout_s: Timeout = 10

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.url is None and self.hook is None:
            raise ValueError("a probe has a url, a hook or both")
        if self.url is None and self.status != 200:
            raise ValueError("a status is that of a url")
        return self


class Counters(Model):
    """A JSON document with two integer members that only grow while a process lives: requests served and errors."""

    url: Url
    requests: Word = "requests"
    errors: Word = "errors"


class Prometheus(Model):
    """Instant queries to the Prometheus server at `url`, each giving one number for this instance; null for none.

    `requests`, `errors`: counters as they stand, not rates; both or neither. `cpu`: percent, 100 is one core. `memory`:
    percent of the machine's.
    """

    url: Url
    requests: Word | None = None
    errors: Word | None = None
    cpu: Word | None = None
    memory: Word | None = None

    @model_validator(mode="after")
    def _queries_agree(self) -> Self:
        if (self.requests is None) != (self.errors is None):
            raise ValueError("requests and errors are asked for together")
        if self.requests is None and self.cpu is None and self.memory is None:
            raise ValueError("a server is named to be asked for something")
        return self


class Metrics(Model):
    """Where an instance is measured: its requests in `counters` or by `prometheus`, its CPU and memory by `prometheus`
    where that has a query, otherwise by the operating system: that of its `process`, or of the whole `host`.
    """

    counters: Counters | None = None
    prometheus: Prometheus | None = None
    usage: Literal["process", "host"] = "process"

    @model_validator(mode="after")
    def _requests_are_counted_once(self) -> Self:
        if self.counters is not None and self.prometheus is not None and self.prometheus.requests is not None:
            raise ValueError("requests are counted in one place: counters or prometheus")
        return self


class Hooks(Model):
    """Names of hooks in the policy's allowlist; null for none."""

    drain: Ident | None = None
    undrain: Ident | None = None


class Instance(Model):
    """One place that runs a release.

    `address`: `local`, or `user@host[:port]` reached with OpenSSH: then, and only then, `host_key` pins its public key.
    `root`: directory that holds `current`, `releases/` and `shared/`. `shared`: paths in a release that lead into
    `shared/`, none below another. `process`: what a restart restarts; a reload by command has none.
    """

    name: Ident
    address: Address = "local"
    host_key: HostKey | None = None
    root: AbsolutePath
    labels: Annotated[dict[Ident, Annotated[str, Field(max_length=256)]], Field(max_length=32)] = {}
    reload: Reload = Reload()
    probe: Probe | None = None
    metrics: Metrics = Metrics()
    process: Process | None = None
    shared: Annotated[Seq[RelativePath], Field(max_length=64)] = ()
    hooks: Hooks = Hooks()

    @model_validator(mode="after")
    def _members_agree(self) -> Self:
        if (self.address == "local") != (self.host_key is None):
            raise ValueError("an address other than local has a host_key, and local has none")
        if self.reload.kind == "command" and self.process is not None:
            raise ValueError("what is reloaded by a command has no process of ours")
        # Sorted with a slash at the end, what lies below a path follows it at once.
        if any(below.startswith(path) for path, below in pairwise(sorted(f"{path}/" for path in self.shared))):
            raise ValueError("a shared path stands once, and none lies below another")
        return self

    def hook_names(self) -> tuple[str, ...]:
        """Names of the policy's commands that are run for it: drain, undrain, and that of its probe."""
        probe = None if self.probe is None else self.probe.hook
        return tuple(name for name in (self.hooks.drain, self.hooks.undrain, probe) if name is not None)


class TesFile(Model):
    """The station's metrics: rows with a `timestamp` and a `tes` (score 0 to 100). A file whose name ends in `.jsonl`
    has a JSON object on each line; any other is CSV with a header line.
    """

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

    # Every claim asks for both, of every instance.
    @cached_property
    def hook_names(self) -> tuple[str, ...]:
        """Names of the policy's commands that are run for its instances, each once, in the order of the instances."""
        return tuple(dict.fromkeys(name for instance in self.instances for name in instance.hook_names()))

    @cached_property
    def canaries(self) -> frozenset[str]:
        """Names of the instances that come first in a rollout: those labelled `canary: "true"`."""
        return frozenset(instance.name for instance in self.instances if instance.labels.get(CANARY_LABEL) == "true")


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
