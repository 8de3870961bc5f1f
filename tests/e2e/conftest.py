"""A ledger with a lease under both keys, its kit, and somebody who checks kits."""

from __future__ import annotations

from pathlib import Path

import pytest
from kits import Check, approved_station, kit_of, new_checker, subject
from station import Station


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    return new_checker(tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """Read it only."""
    return approved_station(tmp_path_factory.mktemp("station"))


@pytest.fixture
def kit(approved: Station, tmp_path: Path) -> Path:
    return kit_of(approved, subject(approved), tmp_path / "kit")
