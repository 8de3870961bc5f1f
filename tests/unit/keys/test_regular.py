"""Regular files alone are read, and nothing else is waited for."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from keys.regular import open_regular, read_regular


def test_no_more_is_read_than_tells_that_there_is_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert [read_regular(tmp_path / "file", limit) for limit in (0, 3, 4, 5)] == [b"1", b"1234", b"12345", b"12345"]


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
@pytest.mark.parametrize("kind", ["pipe", "pipe that is read", "device", "directory", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, flags: int) -> None:
    path = tmp_path / "file"
    open_before = len(list(Path("/dev/fd").iterdir()))
    with closing(socket.socket(socket.AF_UNIX)) as server:
        if kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            server.bind(str(path))
        else:
            os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if kind == "pipe that is read" else None
        with pytest.raises(OSError, match=r"regular|directory|device"):
            open_regular(path, flags)
        if reader is not None:
            os.close(reader)
    assert len(list(Path("/dev/fd").iterdir())) == open_before


def test_link_is_followed_where_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 1) == b"1"
    with pytest.raises(OSError, match="symbolic link"):
        read_regular(tmp_path / "link", 1, links=False)
