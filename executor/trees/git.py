"""Run git on hostile files: without a repository, without anyone's configuration, and within limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from executor.trees.tree import shown
from keys.errors import CalyxError, Unavailable

TIMEOUT_S: Final = 300
_LIMITS: Final = (
    "import os, resource, sys\n"
    "resource.setrlimit(resource.RLIMIT_CPU, (300, 300))\n"
    "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
    "os.umask(0o022)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
"""Set by a process of its own before it becomes git: code between fork and exec of a program with threads can lock."""


def run_git(arguments: Sequence[str], directory: Path, *, done: Sequence[int] = (0,)) -> bytes:
    """What git prints, run in `directory`.

    There is no repository for it: GIT_DIR names none, so a `.git` in or above the directory is not looked at. It could
    otherwise turn `git apply` into a no-op that succeeds, or run a filter's command.

    Raises: CalyxError `git_failed` with git's first line, when it ends with a status not in `done` or takes over 300 s;
    Unavailable `program_missing`.
    """
    git = shutil.which("git")
    if git is None:
        raise Unavailable("program_missing", "git is not installed on this host", hint="install git", program="git")
    environment = {
        "PATH": os.defpath,
        "LC_ALL": "C",
        "HOME": "/dev/null",
        "XDG_CONFIG_HOME": "/dev/null",
        "GIT_DIR": "/dev/null",
        "GIT_CEILING_DIRECTORIES": str(directory.resolve().parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LIMITS, git, *arguments],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CalyxError("git_failed", f"git took longer than {TIMEOUT_S} s") from None
    if result.returncode not in done:
        lines = result.stderr[:4096].decode("utf-8", "replace").strip().splitlines()
        raise CalyxError("git_failed", shown(lines[0])[:300] if lines else f"git ended with {result.returncode}")
    return result.stdout
