"""`scripts/bench.py` measures and says so in a shape that programs can rely on. No figure is held to anything here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from programs import require_program

BENCH = Path(__file__).parents[3] / "scripts" / "bench.py"

NUMBER = {"type": "number", "exclusiveMinimum": 0}
SPREAD = {
    "type": "object",
    "required": ["median", "low", "high", "runs"],
    "properties": {"median": NUMBER, "low": NUMBER, "high": NUMBER, "runs": {"type": "integer", "minimum": 1}},
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["about", "rows"],
    "additionalProperties": False,
    "properties": {
        "about": {
            "type": "object",
            "required": ["date", "cpu", "cores", "disk", "python", "sqlite", "commit", "load", "load_after", "quick"],
            "properties": {
                "date": {"pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$"},
                "cores": {"type": "integer", "minimum": 1},
                "quick": {"const": True},
            },
        },
        "rows": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "what", "unit", "value", "limit", "ratio", "bars", "bars_met", "note", "detail"],
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string"},
                    "what": {"type": "string"},
                    "unit": {"type": "string"},
                    "value": {"anyOf": [SPREAD, {"type": "null"}]},
                    "limit": {"anyOf": [SPREAD, {"type": "null"}]},
                    "ratio": {"anyOf": [SPREAD, {"type": "null"}]},
                    "bars": {"type": "array", "items": NUMBER},
                    "bars_met": {"type": ["integer", "null"]},
                    "note": {"type": "string"},
                    "detail": {"type": "object"},
                },
            },
        },
    },
}


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--directory", str(tmp_path), *arguments],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_rows_have_the_shape_that_is_promised(tmp_path: Path) -> None:
    done = run(tmp_path, "--json", "flip", "other-sqlite")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    assert [row["name"] for row in found["rows"]] == ["flip", "other-sqlite"]
    assert all(row["value"]["low"] <= row["value"]["median"] <= row["value"]["high"] for row in found["rows"])
    assert not list(tmp_path.iterdir())


def test_approval_is_measured_with_the_commands_as_they_are(tmp_path: Path) -> None:
    require_program("ssh-agent")
    done = run(tmp_path, "--json", "approve")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    assert found["rows"][0]["value"] is not None


def test_what_is_not_installed_has_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = json.loads(run(tmp_path, "--json", "other-git").stdout)
    assert found["rows"][0]["value"] is None
    assert found["rows"][0]["note"] == "not installed: git, ssh-keygen"


def test_row_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "no-such-row")
    assert done.returncode == 2
    assert "there is no row no-such-row" in done.stderr


def test_directory_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "help", "--directory", str(tmp_path / "nowhere"))
    assert done.returncode == 2
    assert "nowhere is no directory that may be written to" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_row_is_explained() -> None:
    said = subprocess.run([sys.executable, str(BENCH), "--help"], capture_output=True, text=True, check=True).stdout
    names = " ".join(said.split()).split("rows to measure: ")[1].split(" options:")[0].replace(" ", "").split(",")
    explained = re.findall(
        r"^\| `([a-z-]+)` \|", (BENCH.parents[1] / "docs" / "BENCHMARKS.md").read_text(), re.MULTILINE
    )
    assert names == explained
