"""A newcomer with nothing but `~/.ssh/id_ed25519` pastes the README into a terminal, and it ends where it says.

Left out are the lines that install; changed are the port, the interpreter and how long a tier is watched.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil
import pytest
from documents import CHECKOUT
from instances import free_port
from programs import require_program

PATIENCE_S: Final = 90
PROMPT: Final = re.compile(rb"READY\[(\d+)\]> $")
INSTALLS: Final = ("python3 -m venv", "pip install")


class Terminal:
    """An interactive bash in a pseudo-terminal, with a person who answers `y`, and knows their passphrase."""

    def __init__(self, home: Path, passphrase: str) -> None:
        self.passphrase = passphrase
        environment = {**os.environ, "HOME": str(home), "USER": "ada", "LOGNAME": "ada", "TERM": "dumb"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["PS1"] = "READY[$?]> "
        environment.pop("PROMPT_COMMAND", None)
        # As on a person's machine: remembered heads and settings below the home.
        for name in ("STATE", "CONFIG", "CACHE", "DATA"):
            environment.pop(f"XDG_{name}_HOME", None)
        ours, theirs = pty.openpty()
        self.terminal = ours
        self.process = subprocess.Popen(
            [require_program("bash"), "--norc", "--noediting", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=home,
            start_new_session=True,
        )
        os.close(theirs)
        self.read()

    def type(self, text: str) -> tuple[str, int]:
        """Type something; what was printed until the next prompt, and the exit code."""
        os.write(self.terminal, text.rstrip("\n").encode() + b"\n")
        return self.read()

    def read(self) -> tuple[str, int]:
        seen = bytearray()
        answered = 0
        ends = time.monotonic() + PATIENCE_S
        while time.monotonic() < ends:
            if not select.select([self.terminal], [], [], 0.2)[0]:
                continue
            seen += os.read(self.terminal, 65_536)
            found = PROMPT.search(seen)
            if found:
                return seen.decode("utf-8", "replace").replace("\r", ""), int(found[1])
            if seen.endswith(b"[y/N] ") and len(seen) > answered:
                answered = len(seen)
                os.write(self.terminal, b"y\n")
            elif re.search(rb"Passphrase for [^\n]*: $", seen) and len(seen) > answered:
                answered = len(seen)
                os.write(self.terminal, self.passphrase.encode() + b"\n")
        raise AssertionError(f"no prompt after {PATIENCE_S} s: {bytes(seen[-2000:])!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.terminal)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home; whatever still works in it at the end was started by the test, and is ended."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    yield folder
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder):
                process.kill()


def commands() -> list[str]:
    """What the README has a newcomer paste: files whole, all else line by line."""
    page = (CHECKOUT / "README.md").read_text("utf-8").partition("\n## Use it\n")[2].partition("\n## ")[0]
    found: list[str] = []
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        found += [block] if block.startswith("cat >") else block.splitlines()
    return [command for command in found if not command.startswith(INSTALLS)]


@pytest.mark.parametrize("passphrase", ["", "two words"], ids=["plain", "passphrase"])
def test_newcomer_deploys_and_takes_back_by_the_readme_alone(home: Path, passphrase: str) -> None:
    keygen = [
        require_program("ssh-keygen"),
        "-q",
        "-t",
        "ed25519",
        "-N",
        passphrase,
        "-f",
        str(home / ".ssh/id_ed25519"),
    ]
    subprocess.run(keygen, check=True, timeout=60)
    changes = {"18101": str(free_port()), "/usr/bin/python3": sys.executable}
    changes |= {"bake_s: 10": "bake_s: 3", "interval_s: 2": "interval_s: 1"}
    said: dict[str, tuple[str, int]] = {}
    terminal = Terminal(home, passphrase)
    try:
        for command in commands():
            text = command
            for before, after in changes.items():
                text = text.replace(before, after)
            name = " ".join(command.split()[:2])
            said[name] = terminal.type(text)
            assert said[name][1] == (3 if name == "calyx watch" and "calyx rollback" in said else 0), said[name][0]
            lease = re.search(r"^LEASE-\d{8}-\d{6}", said[name][0], re.MULTILINE)
            if name == "calyx propose":
                assert lease is not None
                changes["LEASE-…"] = lease[0]
    finally:
        terminal.close()
    assert "<h1>Hello</h1>" in said["cat ~/first/site/current/index.html"][0]
    assert "Approved: entry" in said["calyx approve"][0]
    assert "ROLLED_BACK" in said["calyx watch"][0]
    assert "ok: " in said["calyx audit"][0]
