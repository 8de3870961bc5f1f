"""A user whose own directories nobody knows, and paths that begin with `~`, end in a line."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest
from console import Console

from executor.user_paths import expand, home_directory, user_path
from keys.errors import Unavailable, UsageError


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


@pytest.fixture
def nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs a process as some number: no HOME, and no entry in the list of users."""

    def unknown(_: object) -> pwd.struct_passwd:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("nobody_knows")
def test_user_without_a_home_directory_is_told_what_to_set() -> None:
    for kind in ("state", "cache", "data", "config"):
        with pytest.raises(Unavailable, match="HOME is not set") as refused:
            user_path(kind)
        assert f"XDG_{kind.upper()}_HOME" in refused.value.hint
    for asked in (home_directory, lambda: expand(Path("~/ledger"))):
        with pytest.raises(Unavailable, match="HOME is not set"):
            asked()


@pytest.mark.usefixtures("nobody_knows")
def test_audit_by_a_user_without_a_home_directory_is_a_line(console: Console) -> None:
    console.refused("audit", "--home", "copy", code="no_home_directory", ends=5)
    console.refused("status", "--home", "copy", code="no_home_directory", ends=5)


def test_paths_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand(Path("~/ledger")) == tmp_path / "ledger"
    assert expand(Path("~")) == home_directory() == tmp_path
    assert expand(Path("a/~")) == Path("a/~")
    assert expand(Path("~root/x")) == Path(pwd.getpwnam("root").pw_dir) / "x"


def test_home_of_a_user_that_does_not_exist_is_refused(console: Console) -> None:
    with pytest.raises(UsageError, match="~nobody-of-that-name"):
        expand(Path("~nobody-of-that-name/ledger"))
    console.refused("audit", "--home", "~nobody-of-that-name/ledger", code="no_such_user", ends=2)
    console.refused("ledger", "backup", "~nobody-of-that-name/b", code="no_such_user", ends=2)
