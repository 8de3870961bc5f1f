"""A machine's key that is changed: what is said until its new file lies in the home, as docs/GOVERNING.md has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from console import Console

from keys.openssh import fingerprint, new_private_key, store_private_key


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


def row(console: Console) -> dict[str, str | None]:
    rows = json.loads(console.done("keys", "show", "--all", "--json"))
    return next(row for row in rows if row["principal"] == "cp14")


def test_key_of_a_machine_is_changed_with_its_file(console: Console, tmp_path: Path) -> None:
    place, before = console.home / "keys" / "cp14.key", row(console)
    assert before["file"] == str(place)
    key = new_private_key(lambda size: b"\x21" * size)
    store_private_key(tmp_path / "new", key)
    change = ("--add-key", f"cp14={tmp_path / 'new'}.pub", "--remove-key", str(before["keyid"]))
    console.done("trust", "propose", *change, "--approve", "--yes")
    # The file there holds the key that is gone, and not the one of this row.
    assert (row(console)["keyid"], row(console)["file"]) == (fingerprint(key.public), None)
    said = console.refused("agent", "run", "cp14", code="key_not_enrolled", ends=1)
    assert "put the enrolled key of cp14 there" in said.err
    (tmp_path / "new").rename(place)
    assert row(console)["file"] == str(place)
