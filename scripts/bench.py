#!/usr/bin/env python3
"""Measures what the design promises, each ratio with its limit in the same run and in turn with it.

    python scripts/bench.py                 everything, about fifteen minutes on two quiet cores, 7 GB of disk
    python scripts/bench.py --quick         smaller ledgers and fewer runs, about a minute: says that it works
    python scripts/bench.py --json audit    one row, as JSON
    python scripts/bench.py --fleet         one deployment over 1,000 to 100,000 instances, by simulation

Run it in the project's environment (`scripts/test` makes it). Two of the programs that users would pick instead are no
part of it; without them their rows say "not installed". To measure them too:

    .venv/bin/python -m pip install pymerkle securesystemslib

Nothing is compared across runs or machines: a ratio is of one run, a time is of this machine as loaded as it was, and
the load is part of what is said.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench_append import append_batch_row, append_one_row
from bench_audits import audit_again_row
from bench_big import Ledgers
from bench_executor import approve_row, flip_back_row, flip_row, help_row, restore_row
from bench_fleet import fleet_row
from bench_ledger import audit_row, follow_row, growth_row, memory_row, proof_row
from bench_measure import Row, Spread, machine
from bench_orders import order_row
from bench_others import dsse_row, git_row, pymerkle_row, sqlite_row
from bench_start import fold_row, start_row


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    entries: int
    large: int
    growth: tuple[int, ...]
    audits: int
    commits: int
    batches: int
    proofs: int
    flips: int
    files: int
    backs: int
    services: int
    starts: int
    others: int
    fleets: tuple[int, ...]
    deployments: tuple[int, ...]


WHOLE: Final = Sizes(
    60_000,
    1_000_000,
    (1_000, 10_000, 60_000, 1_000_000),
    5,
    300,
    20,
    500,
    200,
    10_000,
    100,
    20,
    20,
    50,
    (1_000, 10_000, 100_000),
    (1_000, 5_000, 10_000),
)
QUICK: Final = Sizes(
    3_000, 6_000, (300, 3_000, 6_000), 2, 50, 4, 100, 30, 1_000, 5, 20, 3, 10, (20, 1_000), (20, 50, 100)
)

Measure = Callable[[Ledgers, Path, Sizes], Row]

ROWS: Final[dict[str, Measure]] = {
    "audit": lambda ledgers, _, sizes: audit_row(ledgers, sizes.entries, sizes.audits),
    # Before those that append to the ledger that it measures.
    "memory": lambda ledgers, _, sizes: memory_row(ledgers, sizes.entries, sizes.large),
    "follow": lambda ledgers, _, sizes: follow_row(ledgers, sizes.entries, sizes.audits),
    "audit-again": lambda ledgers, _, sizes: audit_again_row(ledgers, sizes.entries, sizes.audits),
    "append-one": lambda ledgers, _, sizes: append_one_row(ledgers, sizes.entries, sizes.commits),
    "append-batch": lambda ledgers, _, sizes: append_batch_row(ledgers, sizes.entries, sizes.batches),
    "proof": lambda ledgers, _, sizes: proof_row(ledgers, sizes.large, sizes.proofs),
    "growth": lambda ledgers, _, sizes: growth_row(ledgers, sizes.growth, sizes.batches),
    "start": lambda ledgers, _, sizes: start_row(ledgers, sizes.large, sizes.audits),
    "fold": lambda ledgers, _, sizes: fold_row(ledgers, sizes.large, sizes.deployments),
    "fleet": lambda _, root, sizes: fleet_row(root, sizes.fleets),
    "flip": lambda _, root, sizes: flip_row(root, sizes.flips),
    "flip-back": lambda _, root, sizes: flip_back_row(root, sizes.files, sizes.backs),
    "restore": lambda _, root, sizes: restore_row(root, sizes.services, sizes.backs // 5),
    "order": lambda _, root, sizes: order_row(root, sizes.starts),
    "help": lambda _, root, sizes: help_row(root, sizes.starts),
    "approve": lambda _, root, sizes: approve_row(root, sizes.starts),
    "other-sqlite": lambda _, root, sizes: sqlite_row(root, sizes.commits),
    "other-git": lambda _, root, sizes: git_row(root, sizes.others),
    "other-pymerkle": lambda _, root, sizes: pymerkle_row(root, sizes.others),
    "other-dsse": lambda _, _root, sizes: dsse_row(sizes.others * 10),
}


def measure(names: Sequence[str], sizes: Sizes, root: Path, told: Callable[[str], None]) -> list[Row]:
    """The rows of these names, in the table's order. `told`: called with the name of each before it is measured."""
    ledgers = Ledgers(root)
    rows = []
    for name, row in ROWS.items():
        if name in names:
            told(name)
            # What the rows before keep is walked through by no collection of this one.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            rows.append(row(ledgers, root, sizes))
    return rows


def main() -> int:
    """Measure and print."""
    options = _parse()
    # So that services end and ledgers go, as they do after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    names = options.names + ["fleet"] * options.fleet or list(ROWS)
    with TemporaryDirectory(prefix="calyx-bench-", dir=options.directory) as directory, _progress(len(names)) as told:
        root = Path(directory).resolve()
        os.environ["XDG_STATE_HOME"] = str(root / "state")
        about = machine(root)
        start = time.monotonic()
        rows = measure(names, QUICK if options.quick else WHOLE, root, told)
        about = {**about, "quick": options.quick, "seconds": round(time.monotonic() - start, 1), "load_after": _load()}
    if options.json:
        sys.stdout.write(json.dumps({"about": about, "rows": [row.to_json() for row in rows]}, indent=2) + "\n")
    else:
        _print(about, rows)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"rows to measure: {', '.join(ROWS)}")
    parser.add_argument("--fleet", action="store_true", help="the row fleet, and what else is named")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="smaller and shorter; not for publishing")
    parser.add_argument("--directory", type=Path, help="where to make the ledgers, on the disk that is to be measured")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}")
    if options.directory is not None and not os.access(options.directory, os.W_OK | os.X_OK):
        parser.error(f"{options.directory} is no directory that may be written to")
    return options


def _load() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()]


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=count)
        seen: list[str] = []

        def tell(name: str) -> None:
            progress.update(task, description=name, completed=len(seen))
            seen.append(name)

        yield tell


def _print(about: dict[str, Any], rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)
    for name, value in about.items():
        console.print(Text(f"{name}: {value}"))
    table = Table("row", "what", "median", "from - to", "runs", "limit", "ratio", "bars")
    for row in rows:
        value = row.value
        table.add_row(
            row.name,
            Text(row.what),
            "-" if value is None else f"{_number(value.median)} {row.unit}",
            "-" if value is None else f"{_number(value.low)} - {_number(value.high)}",
            "-" if value is None else str(value.runs),
            "-" if row.limit is None else _number(row.limit.median),
            "-" if row.ratio is None else _ratio(row.ratio),
            _bars(row),
        )
    console.print(table)
    for row in rows:
        notes = [f"limit: {row.limit_what}"] if row.limit_what else []
        notes += [row.note] if row.note else []
        console.print(Text(f"{row.name}: {'; '.join(notes)}"), soft_wrap=True)
        for line in _details(row.detail):
            console.print(Text(f"    {line}"), soft_wrap=True)


def _details(detail: dict[str, Any]) -> Iterator[str]:
    for name, value in detail.items():
        if isinstance(value, list):
            yield from (", ".join(f"{key} {_plain(item)}" for key, item in each.items()) for each in value)
        else:
            yield f"{name}: {_plain(value)}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        if set(value) == {"median", "low", "high", "runs"}:
            return f"{_number(value['median'])} ({_number(value['low'])} - {_number(value['high'])})"
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return _number(value) if isinstance(value, float) else str(value)


def _ratio(ratio: Spread) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} - {ratio.high:.2f})"


def _bars(row: Row) -> str:
    if not row.bars:
        return "-"
    sign = ">=" if row.over else "<"
    met = "not measured" if row.met is None else f"{row.met} of {len(row.bars)} met"
    return f"{sign} {', '.join(f'{bar:g}' for bar in row.bars)}: {met}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(130) from None
