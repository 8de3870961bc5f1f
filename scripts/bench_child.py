"""What scripts/bench.py measures in processes of their own.

bench_child.py verify SAMPLES       says "ready"; for each line SECONDS on standard input, a rate of signatures
bench_child.py audit DIR JOBS       audits the ledger in DIR once; one line of JSON
bench_child.py fold DIR COUNT...    folds the ledger in DIR until there were so many deployments; JSON of its memory
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path


def main() -> int:
    """Do what the arguments say."""
    if sys.argv[1] == "verify":
        return verify(Path(sys.argv[2]))
    if sys.argv[1] == "fold":
        return fold(Path(sys.argv[2]), [int(count) for count in sys.argv[3:]])
    return audit(Path(sys.argv[2]), int(sys.argv[3]))


def verify(samples: Path) -> int:
    """Check signatures with nothing around the binding, as often as the time allows."""
    from nacl.bindings import crypto_sign_open

    pairs = [(bytes.fromhex(signed), bytes.fromhex(key)) for signed, key in json.loads(samples.read_bytes())]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        count, start = 0, time.perf_counter()
        end = start + float(line)
        while (now := time.perf_counter()) < end:
            for signed, key in pairs:
                crypto_sign_open(signed, key)
            count += len(pairs)
        sys.stdout.write(f"{count / (now - start)}\n")
        sys.stdout.flush()
    return 0


def audit(directory: Path, jobs: int) -> int:
    """Audit as an outsider does, with nothing remembered."""
    from bench_measure import own_peak_kib

    from ledger.objects import DirectoryObjects
    from ledger.reader import open_reader
    from policies.auditing.audit import audit as examine
    from policies.fold.scratch import Scratch

    objects = DirectoryObjects(directory / "objects")
    with open_reader(directory / "ledger.db") as reader, Scratch(directory / "scratch") as scratch:
        start = time.perf_counter()
        report = examine(reader, objects, remembered=None, jobs=jobs, scratch=scratch)
        seconds = time.perf_counter() - start
    found = {"seconds": seconds, "entries": report.size, "ok": report.ok, "peak_kib": own_peak_kib()}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


class _Enough(Exception):  # it says that all went well
    """Every mark was reached."""


def fold(directory: Path, marks: list[int]) -> int:
    """Read as an executor does, and note what that takes when so many deployments were claimed."""
    from ledger.chain import Entry
    from ledger.objects import DirectoryObjects
    from ledger.reader import open_reader
    from policies.fold.scratch import Scratch
    from policies.fold.state import State
    from policies.replay import Replay

    found: list[dict[str, int]] = []

    def observe(entry: Entry, state: State) -> None:
        if len(state.deployments) >= marks[len(found)] and not state.live:
            resident = int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
            found.append({"deployments": len(state.deployments), "entries": entry.seq + 1, "resident_kib": resident})
            if len(found) == len(marks):
                raise _Enough

    objects = DirectoryObjects(directory / "objects")
    place = Scratch(directory / "scratch", spill=True)
    with open_reader(directory / "ledger.db") as reader, place as scratch, suppress(_Enough):
        Replay(reader, objects, None, observe, scratch=scratch).sync()
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
