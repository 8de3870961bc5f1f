"""Run a command of the fleet: no shell, in a session of its own, bounded in time."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from executor.tree import shown
from keys.errors import CalyxError


def run_command(argv: Sequence[str], directory: Path, environment: Mapping[str, str], timeout_s: int) -> None:
    """Run a command to its end, in `directory`, with `environment` and nothing more.

    Raises: CalyxError `reload_failed` with the last line it printed, when it cannot be started, ends with another
    status than 0, or takes longer than `timeout_s` seconds; then its process group is ended.
    """
    # A file, not a pipe: something that the command leaves running must not keep us waiting.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise CalyxError("reload_failed", f"{shown(argv[0])}: {error.strerror}") from None
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CalyxError("reload_failed", f"{shown(argv[0])} took longer than {timeout_s} s") from None
        if status != 0:
            output.seek(-min(4096, output.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = output.read(4096).decode("utf-8", "replace").strip().splitlines()
            last = f": {shown(lines[-1])[:300]}" if lines else ""
            raise CalyxError("reload_failed", f"{shown(argv[0])} ended with {status}{last}")
