from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from instances import FENCE, LIFETIME_S, SERVICE, deploy, free_port, refuse, service_instance, service_tree, write_files
from programs import missing

import executor.hosts.process
from executor.hosts.host import ABSENT, Running
from executor.hosts.layout import layout_of
from executor.hosts.local_host import LocalHost
from executor.hosts.probe import check_probe
from executor.hosts.process import load_running, start_service
from executor.hosts.processes import MARKER, boot_id, find_service, is_alive, status_of, ticks_now, wait_ended
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.errors import CalyxError
from ledger.objects import DirectoryObjects
from policies.fleet import Instance, Process


@pytest.fixture
def instance(tmp_path: Path, host: LocalHost) -> Iterator[Instance]:
    made = service_instance(tmp_path / "srv", free_port())
    yield made
    end(made)


@pytest.fixture
def one(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    return service_tree(tmp_path, objects, "one")


@pytest.fixture
def two(tmp_path: Path, objects: DirectoryObjects) -> Tree:
    return service_tree(tmp_path, objects, "two")


def end(instance: Instance) -> None:
    for status in find_service(instance.root, None):
        os.kill(status.pid, signal.SIGKILL)


def running_of(host: LocalHost, instance: Instance) -> Running:
    running = host.inspect(instance).process
    assert running is not None
    return running


def script(objects: DirectoryObjects, tmp_path: Path, text: str, name: str = "script") -> Tree:
    return ingest(write_files(tmp_path / name, {"serve.py": text, "version": "x"}), objects, ())


def test_service_runs_in_its_release_detached_and_with_no_other_environment(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the executor")
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)
    running = running_of(host, instance)
    process = psutil.Process(running.pid)
    assert process.cwd() == f"{instance.root}/releases/{one.digest}"
    assert set(process.environ()) == {"PATH", "LANG", "PORT", "PYTHONDONTWRITEBYTECODE", MARKER}
    assert os.getsid(running.pid) == os.getpgid(running.pid) == running.pid
    assert process.ppid() != os.getpid()
    assert running.tree == one.digest
    host.scrub(instance, one.digest)


def test_flip_without_a_reload_is_no_deployment(host: LocalHost, instance: Instance, one: Tree, two: Tree) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)
    deploy(host, instance, two, one.digest)
    refuse("process_stale", lambda: host.settle(instance, two.digest))
    host.reload(instance, FENCE)
    host.settle(instance, two.digest)


def test_process_from_before_a_flip_there_and_back_is_too_old(
    host: LocalHost, instance: Instance, one: Tree, two: Tree
) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    old = running_of(host, instance)
    while ticks_now() <= old.started:
        assert not wait_ended(old, 0.01)
    deploy(host, instance, two, one.digest)
    host.flip(instance, two.digest, one.digest, FENCE)
    refuse("process_stale", lambda: host.settle(instance, one.digest))


def test_service_in_a_release_that_was_made_again_is_stale(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    path = Path(instance.root) / "releases" / one.digest
    (path / "version").chmod(0o644)
    deploy(host, instance, one, one.digest)
    refuse("process_stale", lambda: host.settle(instance, one.digest))
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)


def test_service_is_found_again_by_another_executor(
    host: LocalHost, instance: Instance, one: Tree, tmp_path: Path
) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)
    other = LocalHost(DirectoryObjects(tmp_path / "objects"))
    other.settle(instance, one.digest)
    assert other.inspect(instance).process == running_of(host, instance)
    other.stop(instance, FENCE)
    assert host.inspect(instance).process is None


def test_pid_that_was_given_to_another_process_is_not_ours(host: LocalHost, instance: Instance, one: Tree) -> None:
    """The record names this very test's process, but with another start."""
    deploy(host, instance, one)
    layout = layout_of(instance)
    status = status_of(os.getpid())
    assert status is not None
    false = Running(pid=os.getpid(), started=status.started + 1, boot=boot_id(), tree=one.digest)
    (layout.private / "process.json").write_bytes(false.canonical())
    assert load_running(layout) is None
    host.stop(instance, FENCE)
    other_boot = false.model_copy(update={"started": status.started, "boot": "another"})
    assert not is_alive(other_boot)


def test_log_that_is_a_pipe_is_not_waited_for(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    os.mkfifo(layout_of(instance).private / "service.log")
    refused = refuse("service_start_failed", lambda: host.reload(instance, FENCE))
    assert "service.log" in refused.message
    assert not find_service(instance.root, None)


def test_reload_leaves_one_service_where_the_record_was_lost(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)
    first = running_of(host, instance)
    (Path(instance.root) / ".calyx/process.json").unlink()
    assert host.inspect(instance).process is None
    host.reload(instance, FENCE)
    host.settle(instance, one.digest)
    assert not is_alive(first)
    assert [status.pid for status in find_service(instance.root, None)] == [running_of(host, instance).pid]


def test_second_service_is_not_started_beside_one_that_cannot_be_found(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither record nor marker tells of it; the lock that it inherited does."""
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    (Path(instance.root) / ".calyx/process.json").unlink()
    monkeypatch.setattr(executor.hosts.process, "end_service", lambda *_: ())
    monkeypatch.setattr("executor.hosts.local_host._check_probe_is_ours", lambda *_: None)
    refuse("service_running", lambda: host.reload(instance, FENCE))


def test_service_that_dies_at_once_is_named_with_its_last_line(
    host: LocalHost, instance: Instance, objects: DirectoryObjects, tmp_path: Path
) -> None:
    tree = script(objects, tmp_path, "import sys; print('first'); sys.exit('no \\x1b[31m config')")
    deploy(host, instance, tree)

    def run() -> None:
        host.reload(instance, FENCE)
        host.settle(instance, tree.digest)

    # Whoever waited for its probe would be refused for that.
    message = refuse("service_exited", run).message
    assert message.endswith("no \\x1b[31m config")


def test_service_that_ends_between_two_looks_is_named_as_ended(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    looks = [running_of(host, instance)]
    os.kill(looks[0].pid, signal.SIGKILL)
    assert wait_ended(looks[0], 60)
    monkeypatch.setattr("executor.hosts.local_host.load_running", lambda _: looks.pop() if looks else None)
    refuse("service_exited", lambda: host.settle(instance, one.digest))
    assert not looks


def test_service_without_a_probe_that_dies_at_once_is_named(
    host: LocalHost, instance: Instance, objects: DirectoryObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("executor.hosts.local_host._GRACE_S", 60.0)
    bare = instance.model_copy(update={"probe": None})
    tree = script(objects, tmp_path, "raise SystemExit('gave up')")
    deploy(host, bare, tree)

    def run() -> None:
        host.reload(bare, FENCE)
        host.settle(bare, tree.digest)

    assert "gave up" in refuse("service_exited", run).message


def test_port_that_another_program_has_is_not_taken_for_the_service(
    host: LocalHost, instance: Instance, one: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stranger answers the probe; the service could never get the port."""
    monkeypatch.setattr("executor.hosts.local_host._STOPPED_S", 60.0)
    monkeypatch.setattr("executor.hosts.probe._TRY_S", 60.0)
    port = (instance.process or Process(argv=("x",))).env["PORT"]
    directory = write_files(tmp_path / "stranger", {"serve.py": SERVICE, "version": "evil"})
    stranger = subprocess.Popen([sys.executable, "serve.py"], cwd=directory, env={"PORT": port})
    try:
        deploy(host, instance, one)
        assert instance.probe
        check_probe(
            instance.probe,
            lambda pause: stranger_ended(stranger, pause),
            lambda: CalyxError("ended", "the stranger ended"),
        )
        refuse("probe_not_ours", lambda: host.reload(instance, FENCE))
        start_service(layout_of(instance), instance.process or Process(argv=("x",)), one.digest)
        refuse("service_exited", lambda: wait_and_settle(host, instance, one))
    finally:
        stranger.kill()
        stranger.wait()


def stranger_ended(stranger: subprocess.Popen[bytes], pause_s: float) -> bool:
    try:
        stranger.wait(pause_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def wait_and_settle(host: LocalHost, instance: Instance, tree: Tree) -> None:
    running = load_running(layout_of(instance))
    if running:
        assert wait_ended(running, 60)
    host.settle(instance, tree.digest)


def test_stop_ends_the_whole_session_and_what_left_it(
    host: LocalHost, instance: Instance, objects: DirectoryObjects, tmp_path: Path
) -> None:
    text = (
        "import os, subprocess, signal\n"
        "subprocess.Popen(['sleep', '120'])\n"
        "subprocess.Popen(['sleep', '120'], start_new_session=True)\n" + SERVICE
    )
    tree = script(objects, tmp_path, text)
    deploy(host, instance, tree)
    host.reload(instance, FENCE)
    host.settle(instance, tree.digest)
    members = find_service(instance.root, load_running(layout_of(instance)))
    assert len(members) == 3
    host.stop(instance, FENCE)
    assert [status_of(member.pid) for member in members if is_running(member.pid, member.started)] == []


def is_running(pid: int, started: int) -> bool:
    status = status_of(pid)
    return bool(status and status.started == started and not status.dead)


def test_service_that_ignores_sigterm_is_killed_after_its_time(
    host: LocalHost, objects: DirectoryObjects, tmp_path: Path
) -> None:
    base = service_instance(tmp_path / "srv", free_port())
    process = (base.process or Process(argv=("x",))).model_copy(update={"stop_s": 0})
    instance = base.model_copy(update={"process": process})
    text = SERVICE.replace("signal.alarm", "signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.alarm")
    tree = script(objects, tmp_path, text)
    try:
        deploy(host, instance, tree)
        host.reload(instance, FENCE)
        host.settle(instance, tree.digest)
        running = running_of(host, instance)
        host.stop(instance, FENCE)
        assert not is_alive(running)
    finally:
        end(instance)


def test_child_that_nobody_reaps_counts_as_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    status = status_of(child.pid)
    assert status is not None
    assert status.dead
    assert not is_alive(Running(pid=child.pid, started=status.started, boot=boot_id(), tree="a" * 64))
    # Reaped by the look at it; Popen then finds no child and takes its status for 0.
    assert status_of(child.pid) is None
    assert child.wait() == 0


@pytest.mark.parametrize(("argv", "says"), [(("/no/such",), "No such file"), (("./serve.py",), "Permission denied")])
def test_program_that_cannot_be_started_is_named(
    host: LocalHost, instance: Instance, one: Tree, argv: tuple[str, ...], says: str
) -> None:
    broken = instance.model_copy(update={"process": Process(argv=argv)})
    deploy(host, broken, one)
    assert says in refuse("service_start_failed", lambda: host.reload(broken, FENCE)).message
    assert host.inspect(broken).process is None


def test_account_that_is_not_there_is_named(host: LocalHost, instance: Instance, one: Tree) -> None:
    broken = instance.model_copy(update={"process": Process(argv=("true",), user="no-such-account")})
    deploy(host, broken, one)
    assert "no-such-account" in refuse("service_start_failed", lambda: host.reload(broken, FENCE)).message


def test_launcher_that_hangs_is_a_refusal(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(host, instance, one)
    monkeypatch.setattr("executor.hosts.process._LAUNCH_TIMEOUT_S", 0)
    assert "took longer" in refuse("service_start_failed", lambda: host.reload(instance, FENCE)).message


def test_service_of_another_user_cannot_write_its_release(
    host: LocalHost, objects: DirectoryObjects, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        missing("only root can start a service as another user, and the tests run as somebody else")
    process = Process(argv=("sh", "run.sh"), user="nobody")
    instance = Instance(name="web-1", root=str(tmp_path / "srv"), process=process, shared=("data",))
    text = (
        "for path in version new; do (echo x > $path) 2> /dev/null && echo $path >> data/wrote; done\n"
        "chmod u+w . version 2> /dev/null && echo mode >> data/wrote\n"
        f"id -u > data/next; mv data/next data/account\nexec sleep {LIFETIME_S}\n"
    )
    tree = ingest(write_files(tmp_path / "source", {"run.sh": text, "version": "x"}), objects, ("data",))
    try:
        deploy(host, instance, tree)
        host.reload(instance, FENCE)
        host.settle(instance, tree.digest)
        data = tmp_path / "srv/shared/data"
        while not (data / "account").exists():
            assert not wait_ended(running_of(host, instance), 0.02)
        assert (data / "account").read_text().strip() == str(pwd.getpwnam("nobody").pw_uid)
        assert not (data / "wrote").exists()
        host.scrub(instance, tree.digest)
    finally:
        host.stop(instance, FENCE)


def test_log_is_begun_again_over_its_limit(
    host: LocalHost, instance: Instance, one: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(host, instance, one)
    log = Path(instance.root) / ".calyx/service.log"
    monkeypatch.setattr(executor.hosts.process, "MAX_LOG", 2000)
    monkeypatch.setattr(executor.hosts.process, "_KEEP_LOG", 100)
    log.write_bytes(b"x" * 3000 + b"end")
    host.inspect(instance)
    assert log.read_bytes() == b""
    assert log.with_suffix(".log.1").read_bytes() == b"x" * 97 + b"end"


def test_absent_with_a_service_that_runs_is_not_settled(host: LocalHost, instance: Instance, one: Tree) -> None:
    deploy(host, instance, one)
    host.reload(instance, FENCE)
    host.flip(instance, one.digest, ABSENT, FENCE)
    refuse("process_stale", lambda: host.settle(instance, ABSENT))
    host.stop(instance, FENCE)
    host.settle(instance, ABSENT)
