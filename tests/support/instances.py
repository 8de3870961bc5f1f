"""Instances, trees and services of this machine for tests of hosts."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from executor.hosts.host import ABSENT, Fence, Plan
from executor.hosts.local_host import LocalHost
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects, ObjectStore
from policies.fleet import Instance, Probe, Process
from policies.kinds import Artifact

FENCE: Final = Fence(ledger="a" * 64, epoch=1, leaf="b" * 64)
LIFETIME_S: Final = 120
"""A service ends by itself after this, should a test die before it can stop it."""

SERVICE: Final = f"""
import http.server, os, signal, sys
signal.alarm({LIFETIME_S})
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = open("version").read().encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def write_files(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Make a directory with these files; a name that ends in `*` is executable, one in `/` is a directory."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name.rstrip("*/")
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755 if name.endswith("*") else 0o644)
    return root


def directory_plan(tree: Tree, before: str = "absent") -> Plan:
    """The plan for a lease whose artifact is the tree's manifest."""
    artifact = Artifact(type="directory", sha256=tree.digest, size=len(tree.manifest))
    return Plan(before=before, after=tree.digest, artifact=artifact)


def patch_plan(objects: ObjectStore, patch: bytes, before: str, after: str) -> Plan:
    """The plan for a lease whose artifact is a patch."""
    ref = objects.put(patch)
    return Plan(before=before, after=after, artifact=Artifact(type="patch", sha256=ref.sha256, size=ref.size))


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def service_tree(scratch: Path, objects: ObjectStore, version: str, shared: tuple[str, ...] = ()) -> Tree:
    """A release that holds a small HTTP service which answers with `version`."""
    source = write_files(scratch / f"source-{version}", {"serve.py": SERVICE, "version": version})
    return ingest(source, objects, shared)


def service_instance(root: Path, port: int, **changes: object) -> Instance:
    """An instance that runs the service of `service_tree` on `port`."""
    process = Process(argv=(sys.executable, "serve.py"), env={"PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"})
    fields: dict[str, object] = {
        "name": "web-1",
        "root": str(root),
        "process": process,
        "probe": Probe(url=f"http://127.0.0.1:{port}/", timeout_s=60),
    }
    return Instance.model_validate({**fields, **changes})


def tree_of(tmp_path: Path, objects: DirectoryObjects, version: str, shared: tuple[str, ...] = ()) -> Tree:
    """A small tree that holds its version, kept as objects."""
    files = {"bin/run*": "#!/bin/sh\n", "version": version}
    return ingest(write_files(tmp_path / f"source-{version}", files), objects, shared)


def deploy(host: LocalHost, instance: Instance, tree: Tree, before: str = ABSENT) -> None:
    """Stage and flip."""
    host.stage(instance, directory_plan(tree, before))
    host.flip(instance, before, tree.digest, FENCE)


def release(instance: Instance, tree: Tree) -> Path:
    """Where a release lies."""
    return Path(instance.root) / "releases" / tree.digest


def unseal(path: Path) -> None:
    """Let the owner write."""
    path.chmod(0o755)


def refuse(code: str, action: Callable[[], object]) -> CalyxError:
    """The refusal of an action, which has this code and names the instance."""
    with pytest.raises(CalyxError) as refused:
        action()
    assert refused.value.code == code
    assert refused.value.fields["instance"] == "web-1"
    return refused.value
