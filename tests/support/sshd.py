"""A real sshd of this user's, on a free port of 127.0.0.1, that lets one key run one command; and an ssh for it."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

from instances import free_port
from programs import missing, require_program

PATIENCE_S = 60
PRIVILEGE_SEPARATION = Path("/run/sshd")


@dataclass(frozen=True)
class Sshd:
    """A running sshd. `config`: for `ssh -F`; it has the host alias `station`. `log`: what sshd says."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.folder / "client.config"

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text("utf-8", "replace")


@contextmanager
def real_sshd(folder: Path, forced: str, client_key: Path) -> Iterator[Sshd]:
    """sshd, ended at the end by its process id, with every session that it still has.

    `folder`: short, empty, this user's. `forced`: what the one authorized key runs, whatever it asks for. `client_key`:
    the private key file that ssh authenticates with; its `.pub` lies beside it.
    """
    program = find_sshd()
    keygen = require_program("ssh-keygen")
    require_program("ssh")
    with _alone(program):
        yield from _run(program, keygen, folder, forced, client_key)


def _run(program: str, keygen: str, folder: Path, forced: str, client_key: Path) -> Iterator[Sshd]:
    host_key = folder / "host_key"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)], check=True, timeout=PATIENCE_S)
    port = free_port()
    public = client_key.with_name(f"{client_key.name}.pub").read_text("ascii").strip()
    quoted = forced.replace('"', '\\"')
    (folder / "authorized_keys").write_text(f'restrict,command="{quoted}" {public}\n', "utf-8")
    (folder / "sshd.config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPubkeyAuthentication yes\nLoginGraceTime 60\n",
        "utf-8",
    )
    known = (folder / "host_key.pub").read_text("ascii").split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {known[0]} {known[1]}\n", "ascii")
    sshd = Sshd(folder, port, _start(program, folder))
    sshd.config.write_text(
        f"Host station\n  HostName 127.0.0.1\n  Port {port}\n  User {getuser()}\n  IdentityFile {client_key}\n"
        f"  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {folder / 'known_hosts'}\n"
        "  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  ConnectTimeout 60\n",
        "utf-8",
    )
    try:
        _wait_for(sshd)
        yield sshd
    finally:
        _end(sshd)


@contextmanager
def _alone(program: str) -> Iterator[None]:
    """One sshd of ours at a time: they share the directory that root's needs."""
    with Path(program).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_sshd() -> str:
    """sshd is started by its absolute path; it lies where PATH of a person seldom leads."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        missing("the program sshd is not installed")
    return str(Path(found).absolute())


def ssh_for(sshd: Sshd) -> str:
    """What CALYX_SSH is to be, so that `station` is that sshd."""
    return shlex.join([require_program("ssh"), "-F", str(sshd.config)])


def _start(program: str, folder: Path) -> subprocess.Popen[bytes]:
    if os.geteuid() == 0 and not PRIVILEGE_SEPARATION.exists():
        # Debian's sshd insists on it when root starts it, and only its service manager makes it. It is removed again.
        PRIVILEGE_SEPARATION.mkdir(mode=0o755)
        (folder / "made-privsep").touch()
    with (folder / "sshd.log").open("wb") as log:
        return subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd.config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_for(sshd: Sshd) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if sshd.process.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", sshd.port), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"sshd did not begin to listen: {sshd.log}")


def _end(sshd: Sshd) -> None:
    import psutil

    sessions = psutil.Process(sshd.process.pid).children(recursive=True) if sshd.process.poll() is None else []
    sshd.process.send_signal(signal.SIGTERM)
    sshd.process.wait(PATIENCE_S)
    for process in psutil.wait_procs(sessions, timeout=60)[1]:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if (sshd.folder / "made-privsep").exists():
        with suppress(OSError):
            PRIVILEGE_SEPARATION.rmdir()
