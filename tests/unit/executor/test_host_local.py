from __future__ import annotations

import fcntl
import os
import select
import sys
import tempfile
from pathlib import Path

import pytest
from instances import FENCE, LIFETIME_S, deploy, directory_plan, refuse, release

from executor.hosts.host import ABSENT, Fence
from executor.hosts.local_host import LocalHost
from executor.trees.tree import Tree
from ledger.objects import DirectoryObjects
from policies.fleet import Instance, Process, Reload


def test_empty_place_is_absent(host: LocalHost, instance: Instance) -> None:
    observed = host.inspect(instance)
    assert (observed.tree, observed.adoptable, observed.process, observed.fence) == (ABSENT, False, None, None)
    assert observed.free_bytes > 0
    assert observed.writable
    assert not Path(instance.root).exists()


def test_place_that_the_executor_may_not_write_to(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere but on a read-only file system, so the system's answer is made up.
    deploy(host, instance, one)
    monkeypatch.setattr(os, "access", lambda path, *_, **__: path != Path(instance.root))
    assert not host.inspect(instance).writable


def test_release_is_staged_served_and_taken_back(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> None:
    deploy(host, instance, one)
    root = Path(instance.root)
    assert str((root / "current").readlink()) == f"releases/{one.digest}"
    host.stage(instance, directory_plan(two, one.digest))
    assert (root / "current/version").read_text() == "one"
    host.flip(instance, one.digest, two.digest, FENCE)
    assert (root / "current/version").read_text() == "two"
    host.settle(instance, two.digest)
    host.scrub(instance, one.digest)
    host.flip(instance, two.digest, one.digest, FENCE)
    assert (root / "current/version").read_text() == "one"
    host.flip(instance, one.digest, ABSENT, FENCE)
    assert not (root / "current").is_symlink()
    host.settle(instance, ABSENT)
    assert host.inspect(instance).fence == FENCE


def test_operations_done_twice_change_nothing(host: LocalHost, instance: Instance, one: Tree) -> None:
    for _ in range(2):
        host.stage(instance, directory_plan(one))
        host.flip(instance, ABSENT, one.digest, FENCE)
        host.reload(instance, FENCE)
        host.settle(instance, one.digest)
    for _ in range(2):
        host.stop(instance, FENCE)
        host.flip(instance, one.digest, ABSENT, FENCE)


def test_flip_from_another_tree_is_refused(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> None:
    deploy(host, instance, one)
    host.stage(instance, directory_plan(two))
    refuse("tree_unexpected", lambda: host.flip(instance, "e" * 64, two.digest, FENCE))
    refuse("tree_unexpected", lambda: host.flip(instance, ABSENT, two.digest, FENCE))
    refuse("release_missing", lambda: host.flip(instance, one.digest, "e" * 64, FENCE))
    assert host.inspect(instance).tree == one.digest


@pytest.mark.parametrize("target", ["/etc", "releases/../../etc", "releases/xyz", "releases/" + "A" * 64])
def test_current_that_leads_elsewhere_is_not_followed(
    host: LocalHost, instance: Instance, target: str, one: Tree
) -> None:
    host.stage(instance, directory_plan(one))
    (Path(instance.root) / "current").symlink_to(target)
    refuse("current_unknown", lambda: host.inspect(instance))
    refuse("current_unknown", lambda: host.flip(instance, ABSENT, one.digest, FENCE))


def test_current_that_is_a_file_is_not_replaced(host: LocalHost, instance: Instance, one: Tree) -> None:
    host.stage(instance, directory_plan(one))
    (Path(instance.root) / "current").write_text("mine")
    refuse("current_unknown", lambda: host.flip(instance, ABSENT, one.digest, FENCE))


def test_replaced_executor_can_neither_flip_nor_reload_nor_stop(
    host: LocalHost, instance: Instance, one: Tree, two: Tree
) -> None:
    deploy(host, instance, one)
    host.stage(instance, directory_plan(two))
    newer = Fence(ledger=FENCE.ledger, epoch=2, leaf="c" * 64)
    host.flip(instance, one.digest, one.digest, newer)
    refuse("fenced", lambda: host.flip(instance, one.digest, two.digest, FENCE))
    refuse("fenced", lambda: host.reload(instance, FENCE))
    refuse("fenced", lambda: host.stop(instance, FENCE))
    assert host.inspect(instance).tree == one.digest


def test_flip_without_effect_is_fenced_too(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    fork = Fence(ledger=FENCE.ledger, epoch=FENCE.epoch, leaf="c" * 64)
    refuse("fork_detected", lambda: host.flip(instance, one.digest, one.digest, fork))


def test_lock_that_another_holds_is_waited_for_and_then_named(
    instance: Instance, one: Tree, objects: DirectoryObjects
) -> None:
    host = LocalHost(objects, lock_wait_s=0.05)
    deploy(host, instance, one)
    with (Path(instance.root) / ".calyx/lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refuse("host_busy", lambda: host.flip(instance, one.digest, ABSENT, FENCE))
    host.flip(instance, one.digest, ABSENT, FENCE)


def test_flip_does_not_wait_for_a_stage(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    with (Path(instance.root) / ".calyx/stage.lock").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        host.flip(instance, one.digest, ABSENT, FENCE)


@pytest.mark.parametrize("root", ["/", "/srv/../etc", "//"])
def test_root_that_is_no_plain_path_is_refused(host: LocalHost, root: str) -> None:
    # The fleet's model refuses it first; a host believes nobody.
    instance = Instance(name="web-1", root="/srv/web").model_copy(update={"root": root})
    refuse("bad_root", lambda: host.inspect(instance))


def test_disk_that_refuses_is_told_as_such(host: LocalHost, tmp_path: Path, one: Tree) -> None:
    (tmp_path / "file").write_text("")
    instance = Instance(name="web-1", root=str(tmp_path / "file/below"))
    error = refuse("host_io", lambda: host.stage(instance, directory_plan(one)))
    assert error.exit_code == 5


def test_reload_command_runs_in_the_current_release(
    host: LocalHost, tmp_path: Path, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the executor")
    command = Reload(kind="command", argv=("sh", "-c", f"pwd -P > {tmp_path}/seen; env >> {tmp_path}/seen"))
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), reload=command)
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    seen = (tmp_path / "seen").read_text()
    assert seen.splitlines()[0] == str(release(instance, one))
    assert "SECRET" not in seen


@pytest.mark.parametrize(
    ("argv", "timeout_s", "says"),
    [
        (("sh", "-c", "echo first; echo the cause >&2; exit 3"), 60, "ended with 3: the cause"),
        (("sh", "-c", "sleep 60"), 0, "longer than 0 s"),
        (("/no/such/program",), 60, "No such file"),
    ],
)
def test_reload_command_that_fails_is_named(
    host: LocalHost, tmp_path: Path, one: Tree, argv: tuple[str, ...], timeout_s: int, says: str
) -> None:
    # No fleet has a timeout of nothing; a test has no time to wait for one.
    command = Reload(kind="command", argv=argv).model_copy(update={"timeout_s": timeout_s})
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), reload=command)
    deploy(host, instance, one)
    assert says in refuse("reload_failed", lambda: host.reload(instance, FENCE)).message


def command_instance(root: Path, text: str, *words: str, timeout_s: int = 60) -> Instance:
    """An instance that is reloaded by a Python program."""
    argv = (sys.executable, "-I", "-c", f"import signal; signal.alarm({LIFETIME_S}); exec({text!r})", *words)
    return Instance(name="web-1", root=str(root), reload=Reload(kind="command", argv=argv, timeout_s=timeout_s))


def test_reload_command_that_prints_without_end_fills_no_disk_and_is_ended(
    objects: DirectoryObjects, tmp_path: Path, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints is kept nowhere but in memory, and there only its end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    # By a clock that runs with what is printed: each look at it comes after some.
    looks = iter(range(1_000))
    host = LocalHost(objects, monotonic=lambda: float(next(looks)))
    instance = command_instance(tmp_path / "srv", "while True: print('x' * 1000)", timeout_s=100)
    deploy(host, instance, one)
    error = refuse("reload_failed", lambda: host.reload(instance, FENCE))
    assert "took longer than 100 s: xxx" in error.message
    assert len(error.message) < 500


def test_reload_command_that_prints_much_is_told_by_its_end(host: LocalHost, tmp_path: Path, one: Tree) -> None:
    text = "import sys; print('x\\n' * 2_000_000 + 'the cause'); sys.exit(3)"
    instance = command_instance(tmp_path / "srv", text)
    deploy(host, instance, one)
    assert refuse("reload_failed", lambda: host.reload(instance, FENCE)).message.endswith("ended with 3: the cause")


def test_service_that_a_reload_command_leaves_running_may_go_on_printing(
    host: LocalHost, tmp_path: Path, one: Tree
) -> None:
    """Nobody waits for it, and it is not ended by nobody's listening any more."""
    go, told = tmp_path / "go", tmp_path / "told"
    os.mkfifo(go)
    os.mkfifo(told)
    text = f"""
import os
if os.fork() == 0:
    os.read(os.open({str(go)!r}, os.O_RDONLY), 1)
    try:
        for _ in range(500):
            os.write(1, b"x" * 1000)
        said = b"printed"
    except OSError as error:
        said = type(error).__name__.encode()
    os.write(os.open({str(told)!r}, os.O_WRONLY), said)
    os._exit(0)
"""
    instance = command_instance(tmp_path / "srv", text)
    deploy(host, instance, one)
    # Open at both ends, so that nothing here waits for the other side.
    with go.open("r+b", buffering=0) as start, told.open("r+b", buffering=0) as answer:
        host.reload(instance, FENCE)
        start.write(b"x")
        assert select.select([answer], [], [], 60)[0]
        assert answer.read(100) == b"printed"


def test_reload_command_beside_a_process_is_refused_before_anything_is_staged(
    host: LocalHost, tmp_path: Path, one: Tree
) -> None:
    instance = Instance(
        name="web-1",
        root=str(tmp_path / "srv"),
        reload=Reload(kind="command", argv=("true",)),
    ).model_copy(update={"process": Process(argv=("x",))})
    refuse("bad_reload", lambda: host.stage(instance, directory_plan(one)))


def test_reload_with_nothing_deployed_is_refused(host: LocalHost, instance: Instance) -> None:
    refuse("release_missing", lambda: host.reload(instance, FENCE))
