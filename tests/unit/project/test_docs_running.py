"""The unit in docs/RUNNING.md is one that systemd reads, and its fences are worth something."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from documents import CHECKOUT
from programs import require_program

import executor.logbook
import executor.rollout.endpoint
import executor.rollout.patience
import executor.rollout.turn
from executor.homes.home import Home
from executor.homes.snapshots import KEEP_EVERY, WORTH_KEEPING
from executor.rollout.exposition import expose
from executor.rollout.figures import Figures, GateFigure, Standing
from policies.fold.scratch import ROOM

DOCUMENT = CHECKOUT / "docs" / "RUNNING.md"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program in place of the one that is not installed here."""
    (text,) = re.findall(r"```ini\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "calyx-executor.service"
    path.write_text(text.replace("/opt/calyx/bin/calyx", "/bin/true").replace("=calyx\n", "=root\n"))
    return path


def test_systemd_takes_the_unit_without_a_word(unit: Path) -> None:
    done = subprocess.run(
        [require_program("systemd-analyze"), "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # What it says of other units of this machine is not ours.
    assert not [line for line in (done.stdout + done.stderr).splitlines() if "calyx" in line]


def test_systemd_finds_the_units_exposure_low(unit: Path) -> None:
    done = subprocess.run(
        [require_program("systemd-analyze"), "security", "--offline=true", "--threshold=35", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-400:]


def test_strict_protection_leaves_a_place_to_work_out_patches(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    assert "ProtectSystem=strict" in text
    (home,) = re.findall(r"^Environment=CALYX_HOME=(.*)$", text, re.MULTILINE)
    (writable,) = re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)
    assert home in {f"/var/lib/{name}" for name in writable.split()}
    assert Home(Path(home)).workplace("cp20")._directory == Path(home) / "run" / "work" / "cp20"


def test_the_document_names_every_metric_and_the_codes_own_times() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    figures = Figures(lambda: 0.0)
    figures.stand(Standing(gates=[GateFigure("l", "t", "g", "pass", 1.0, 1.0, 1.0)], deployments={"BAKING": 1}))
    names = set(re.findall(r"^# TYPE (calyx_\w+)", expose(figures).decode(), re.MULTILINE))
    assert len(names) > 10
    missing = [name for name in names if name not in text and name.replace("calyx_gate", "") not in text]
    assert missing == []
    assert f"503 after {executor.rollout.endpoint.HUNG_S:.0f} s" in text
    assert f"no sign of life for {executor.rollout.turn.STALE_S:.0f} s" in text
    assert f"tries again each {executor.rollout.patience.RETRY_FULL_S} s until" in text
    assert f"begins again at {executor.logbook.MAX_LOG // 1024**2} MiB" in text
    assert f"on every {KEEP_EVERY:,} entries" in text
    assert f"Fewer than {WORTH_KEEPING:,} entries" in text
    assert f"the last {ROOM // 1024**2} MiB of a disk" in text


def test_the_document_says_which_of_the_retries_are_logged() -> None:
    patience = executor.rollout.patience
    assert patience.LOGGED_RETRIES == 3
    assert "logs three of these and then one in ten minutes" in DOCUMENT.read_text(encoding="utf-8")
    assert patience.LOGGED_EVERY * patience.RETRY_FULL_S == 10 * 60
    assert "logs three of these and then one a minute" in DOCUMENT.read_text(encoding="utf-8")
    assert patience.LOGGED_EVERY * patience.RETRY_S == 60
