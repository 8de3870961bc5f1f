"""The service of an instance: started in its release, found again by whoever comes next, and ended as a whole.

root/.calyx/process.json    canonical JSON of `Running`, written by the service's own process (executor.hosts.launch)
root/.calyx/alive           locked by the service as long as it runs
root/.calyx/service.log     what it prints; the older part in service.log.1
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from executor.hosts import launch
from executor.hosts.host import Running
from executor.hosts.layout import Layout
from executor.hosts.processes import MARKER, boot_id, end_service, is_alive
from executor.trees.tree import shown
from keys.canonical import parse_json
from keys.errors import CalyxError, FormatError
from keys.regular import open_regular, read_regular
from ledger.durable import sync_directory
from policies.fleet import Process

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LANG: Final = "C.UTF-8"
MAX_LOG: Final = 16 * 1024 * 1024
"""Bytes of service.log before its end is set aside and it begins again."""
_KEEP_LOG: Final = 1024 * 1024
_MAX_RECORD: Final = 1024
_LAUNCH_TIMEOUT_S: Final = 30


def load_running(layout: Layout) -> Running | None:
    """The service process that was started last, if it lives."""
    try:
        data = read_regular(layout.private / "process.json", _MAX_RECORD)
        running = Running.from_json(parse_json(data, limit=_MAX_RECORD))
    except (OSError, FormatError):
        # Nothing was started, or the disk lost it; a service that lives nevertheless holds `alive`, so none is added.
        return None
    return running if is_alive(running) else None


def start_service(layout: Layout, process: Process, tree: str) -> Running:
    """Start the service with the release `tree` as working directory, in a session of its own, recorded and detached.

    Its environment is PATH, LANG, the fleet's, and CALYX_INSTANCE, the instance's root.

    Raises: CalyxError `service_running` when one is there, `service_start_failed`, `service_exited`.
    """
    trim_log(layout)
    request = {
        "alive": str(layout.private / "alive"),
        "record": str(layout.private / "process.json"),
        "log": str(layout.private / "service.log"),
        "directory": str(layout.release(tree)),
        "argv": list(process.argv),
        "environment": {"PATH": PATH, "LANG": LANG, **process.env, MARKER: str(layout.root)},
        "boot": boot_id(),
        "tree": tree,
        **_account(process.user),
    }
    try:
        result = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(launch.__file__))],
            input=json.dumps(request).encode(),
            capture_output=True,
            # Whoever stops the service after this program's death finds what was just being started, too.
            env={MARKER: str(layout.root)},
            timeout=_LAUNCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CalyxError(
            "service_start_failed", f"starting the service took longer than {_LAUNCH_TIMEOUT_S} s"
        ) from None
    answer = shown(result.stdout.decode("utf-8", "replace"))
    if answer == launch.RUNNING:
        raise CalyxError(
            "service_running",
            f"a process of the service in {layout.root} still runs",
            hint="it left its session; end it by hand, then reload",
        )
    if answer or result.returncode != 0:
        raise CalyxError("service_start_failed", f"the service cannot be started: {answer or 'the launcher failed'}")
    running = load_running(layout)
    if running is None:
        raise exited(layout)
    return running


def stop_service(layout: Layout, stop_s: float) -> None:
    """End the service and everything it started, and forget it. `stop_s`: seconds between SIGTERM and SIGKILL.

    Raises: CalyxError `service_unstoppable`.
    """
    try:
        left = end_service(str(layout.root), load_running(layout), stop_s)
    except PermissionError:
        raise CalyxError(
            "service_unstoppable", "the service runs as another user", hint="run the executor as root"
        ) from None
    if left:
        raise CalyxError("service_unstoppable", f"process {left[0]} of the service does not end", pid=left[0])
    with suppress(FileNotFoundError):
        (layout.private / "process.json").unlink()
        sync_directory(layout.private)


def exited(layout: Layout) -> CalyxError:
    """The error for a service that ended by itself, with the last line it printed."""
    line = last_log_line(layout)
    return CalyxError(
        "service_exited",
        f"the service ended by itself{': ' if line else ''}{line}",
        hint=f"read {layout.private / 'service.log'}",
    )


def last_log_line(layout: Layout) -> str:
    """The last line that the service printed, at most 300 characters, safe to show; empty when there is none."""
    try:
        with os.fdopen(open_regular(layout.private / "service.log"), "rb") as file:
            file.seek(-min(4096, os.fstat(file.fileno()).st_size), os.SEEK_END)
            lines = file.read(4096).decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return shown(lines[-1])[:300] if lines and not lines[-1].startswith(launch.NOTE) else ""


def trim_log(layout: Layout) -> None:
    """Begin the service's log again when it is over its limit, and keep its end. A few lines may be lost meanwhile."""
    # The service appends, so it goes on writing at the new end.
    with suppress(OSError), (layout.private / "service.log").open("r+b") as file:
        if os.fstat(file.fileno()).st_size > MAX_LOG:
            file.seek(-_KEEP_LOG, os.SEEK_END)
            (layout.private / "service.log.1").write_bytes(file.read(_KEEP_LOG))
            file.truncate(0)


def find_account(user: str) -> pwd.struct_passwd:
    """The account of a name. Raises: CalyxError `service_start_failed` when this host has none."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise CalyxError("service_start_failed", f"the account {user} is not on this host", user=user) from None


def _account(user: str | None) -> dict[str, int | list[int] | None]:
    if user is None or user == pwd.getpwuid(os.geteuid()).pw_name:
        return {"uid": None, "gid": None, "groups": None}
    account = find_account(user)
    groups = os.getgrouplist(user, account.pw_gid)
    return {"uid": account.pw_uid, "gid": account.pw_gid, "groups": groups}
