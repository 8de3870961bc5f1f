from __future__ import annotations

import json
from pathlib import Path

from executor.logbook import LogFile, fact_line, format_json_line, telling, trim_log


def test_line_of_json_carries_the_facts_and_is_one_line() -> None:
    line = fact_line("L STARTED\n(entry 7)", lease_id="L", seq=7, tier=None)
    told = format_json_line(line, "2026-01-05T09:00:00Z")
    assert "\n" not in told
    assert json.loads(told) == {
        "seq": 7,
        "lease_id": "L",
        "level": "info",
        "text": "L STARTED\n(entry 7)",
        "timestamp": "2026-01-05T09:00:00Z",
    }


def test_level_of_a_line_is_its_own() -> None:
    assert json.loads(format_json_line(fact_line("x", level="warning"), ""))["level"] == "warning"


def test_text_of_others_reaches_a_log_file_as_text(tmp_path: Path) -> None:
    telling(LogFile(tmp_path / "log").write, lambda: "T", as_json=False)("\x1b[2Jgone\nT all is well")
    assert (tmp_path / "log").read_text() == "T <U+001B>[2Jgone<U+000A>T all is well\n"


def test_log_never_grows_beyond_twice_its_limit_and_keeps_its_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", limit=1_000)
    for number in range(1_000):
        log.write(f"line {number}")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2_000
    kept = (tmp_path / "log.1").read_text() + (tmp_path / "log").read_text()
    lines = kept.splitlines()
    assert lines == [f"line {number}" for number in range(1_000 - len(lines), 1_000)]
    assert len(lines) > 50


def test_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    LogFile(tmp_path / "nowhere" / "log").write("lost")


def test_log_of_another_process_begins_again_under_its_hands(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab", buffering=0) as output:
        output.write(b"one\n" * 100)
        trim_log(tmp_path / "log", 100)
        output.write(b"two\n")
    assert (tmp_path / "log").read_bytes() == b"two\n"
    assert (tmp_path / "log.1").read_bytes() == b"one\n" * 24
