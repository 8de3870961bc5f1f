"""A program for fault tests: an executor is killed while it reloads an instance, and another one takes over.

    python killed_reload.py ROOT PORT STEP_MS...

For each time it forks an executor that reloads, kills it after so many milliseconds, reloads and settles itself, and
prints one JSON line: how many processes of the service there are then, and whether the recorded one is among them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path

from instances import FENCE, deploy, service_instance, service_tree

from executor.hosts.local_host import LocalHost
from executor.hosts.processes import find_service
from ledger.objects import DirectoryObjects


def main(root: Path, port: int, delays_ms: list[int]) -> None:
    objects = DirectoryObjects(root / "objects")
    host = LocalHost(objects)
    instance = service_instance(root / "srv", port)
    tree = service_tree(root, objects, "one")
    deploy(host, instance, tree)
    try:
        for delay_ms in delays_ms:
            child = os.fork()
            if child == 0:
                host.reload(instance, FENCE)
                os._exit(0)
            waiting = select.poll()
            waiting.register(os.pidfd_open(child), select.POLLIN)
            waiting.poll(delay_ms)
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            host.reload(instance, FENCE)
            host.settle(instance, tree.digest)
            running = host.inspect(instance).process
            pids = [found.pid for found in find_service(instance.root, running)]
            line = {
                "delay_ms": delay_ms,
                "killed": os.WIFSIGNALED(status),
                "services": len(pids),
                "recorded": running is not None and running.pid in pids,
            }
            print(json.dumps(line), flush=True)  # noqa: T201 - its output is its result
    finally:
        host.stop(instance, FENCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [int(value) for value in sys.argv[3:]])
