"""Readers and writers of one home at once: a remembered head that is newer than what was read is no contradiction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from station import Station, new_station

from keys.errors import CalyxError
from ledger.store import Tip
from policies.pin import Pin
from policies.replay import Replay


class Overtaken:
    """A reader's store that another process appends to right after the first look at its tip."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._looked = False

    def tip(self) -> Tip:
        tip = self._station.store.tip()
        if not self._looked:
            self._looked = True
            self._station.propose()
        return tip

    def __getattr__(self, name: str) -> Any:
        return getattr(self._station.store, name)


def test_entry_appended_while_reading_is_no_contradiction(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    replay = Replay(Overtaken(station), station.objects, Pin(station.memory, str(station.root)))
    assert replay.sync().size == station.state.size


def test_end_cut_while_another_remembers_is_still_a_contradiction(tmp_path: Path) -> None:
    station = new_station(tmp_path)
    old = station.store.tip()
    station.propose()

    class Cut:
        def tip(self) -> Tip:
            return old

        def head(self) -> object:
            return old.head

        def __getattr__(self, name: str) -> Any:
            return getattr(station.store, name)

    with pytest.raises(CalyxError, match="entries are missing at the end"):
        Replay(Cut(), station.objects, Pin(station.memory, str(station.root))).sync()  # type: ignore[arg-type]  # a cut one
