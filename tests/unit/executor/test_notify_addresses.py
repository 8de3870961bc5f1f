"""Addresses are secret: read from a file that is its owner's alone, and in no error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from executor.notify.addresses import MAX_FILE, AddressBook, load_book
from keys.errors import Refused

SECRET = "json://user:hunter2@hooks.example"


def write(root: Path, text: str, mode: int = 0o600) -> Path:
    path = root / "notify.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(path: Path) -> Refused:
    with pytest.raises(Refused) as caught:
        load_book(path)
    text = f"{caught.value} {caught.value.hint} {caught.value.fields}"
    assert "hunter2" not in text
    assert "hooks.example" not in text
    assert caught.value.__cause__ is None
    return caught.value


def test_channels_and_their_addresses(tmp_path: Path) -> None:
    book = load_book(write(tmp_path, f"oncall: ['{SECRET}', json://two.example]\nteam:\n  - xml://three.example\n"))
    assert [address.url for address in book["oncall"]] == [SECRET, "json://two.example"]
    assert list(book) == ["oncall", "team"]
    assert "hunter2" not in repr(book)
    assert len({address.tag for addresses in book.values() for address in addresses}) == 3


def test_no_file_is_no_channel(tmp_path: Path) -> None:
    assert load_book(tmp_path / "notify.yaml") == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    assert refusal(write(tmp_path, f"oncall: ['{SECRET}']", mode)).code == "addresses_open"


@pytest.mark.parametrize(
    "text",
    [
        f"oncall: {SECRET}",
        f"- {SECRET}",
        f"'{SECRET}': [x]",
        f"oncall: ['{SECRET} ']",
        "oncall: ['hunter2']",
        "oncall: []",
        "oncall: [1.5]",
        "on call: ['json://x']",
        f"oncall: ['{SECRET}\n",
        f"oncall: &a ['{SECRET}']\nteam: *a",
        f"oncall: ['{SECRET}']\noncall: ['{SECRET}']",
        f"oncall: ['json://{'x' * 3000}']",
        f"oncall: !!python/name:hunter2 ['{SECRET}']",
        "oncall:\n" + f"  - '{SECRET}'\n" * 17,
        "".join(f"c{n}: ['{SECRET}']\n" for n in range(65)),
    ],
)
def test_what_is_no_map_of_channels_is_refused_without_repeating_it(tmp_path: Path, text: str) -> None:
    assert refusal(write(tmp_path, text)).code == "bad_addresses"


def test_file_that_is_too_long_or_not_text_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "#" * (MAX_FILE + 1))).code == "bad_addresses"
    path = write(tmp_path, "")
    path.write_bytes(b"\xff\xfe")
    assert refusal(path).code == "bad_addresses"


def test_link_pipe_or_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    real = write(tmp_path, f"oncall: ['{SECRET}']")
    (tmp_path / "link").symlink_to(real)
    assert refusal(tmp_path / "link").code == "bad_addresses"
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe").code == "bad_addresses"
    assert refusal(tmp_path).code == "bad_addresses"


def test_book_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    book = AddressBook(tmp_path / "notify.yaml")
    assert book.load() == {}
    write(tmp_path, "oncall: ['json://one.example']")
    assert list(book.load()) == ["oncall"]
    write(tmp_path, "another: ['json://one.example']")
    assert list(book.load()) == ["another"]
    (tmp_path / "notify.yaml").unlink()
    assert book.load() == {}
