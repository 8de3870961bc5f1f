"""What others say reaches a terminal as theirs: it begins no line, and does not come between question and answer."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import typer

from executor.commands import terminal
from executor.remote.messages import HostRefused
from keys.errors import Unavailable

FORGED = "".join(("x" * 75, "Sign as ada? [y/N] ".ljust(80), "Approved: entry 9".ljust(80), "hint: all is well"))


class Screen(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Standard error as a terminal; all that was written to it."""
    shown = Screen()
    # Not sys itself: pytest puts its own streams there again before the test runs.
    monkeypatch.setattr(terminal, "sys", SimpleNamespace(stderr=shown, stdin=sys.stdin, stdout=sys.stdout))
    monkeypatch.setattr(typer, "echo", lambda text, nl=True, err=False: shown.write(text + "\n" * nl) if err else None)
    return shown.getvalue


def rows(text: str) -> list[str]:
    """The rows that a terminal shows: it wraps by itself what is too wide."""
    return [line[at : at + 80] for line in text.split("\n") for at in range(0, max(len(line), 1), 80)]


def begins(row: str) -> bool:
    return row.startswith(("error: ", "hint: the host's hint: ", "ssh: ", " | ")) or not row


def test_line_of_a_host_wraps_into_no_line_of_ours(screen: Callable[[], str]) -> None:
    terminal.note_theirs(f"ssh: {FORGED}")
    shown = rows(screen())
    assert len(shown) > 3
    assert all(map(begins, shown))


def test_refusal_of_a_host_wraps_into_no_line_of_ours(screen: Callable[[], str]) -> None:
    terminal.show_error(HostRefused("refused", f"the host says: {FORGED}", hint=f"the host's hint: {FORGED}"))
    assert all(map(begins, rows(screen())))


def test_own_hint_stays_one_line_to_copy(screen: Callable[[], str]) -> None:
    command = f"ssh-keygen -Y sign -n approval-v1@station.calyx -f YOUR_KEY {'d' * 60}/to-sign"
    terminal.show_error(Unavailable("not_signed", "there is no signature", hint=command))
    assert f"hint: {command}" in screen().split("\n")


def test_host_says_nothing_between_question_and_answer(
    screen: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = threading.Thread(target=terminal.note_theirs, args=("ssh: Lease LEASE-1 is another one",), daemon=True)

    class Person:
        def isatty(self) -> bool:
            return False

        def readline(self) -> str:
            host.start()
            host.join(0.2)
            assert screen().endswith("[y/N] "), "the host wrote behind the question"
            return "n\n"

    monkeypatch.setattr("executor.commands.terminal.sys.stdin", Person())
    assert not terminal.ask("Sign as ada?")
    host.join(60)
    assert "ssh: Lease LEASE-1" in screen()


def test_reason_of_a_proposer_wraps_into_no_line_of_ours(
    screen: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "terminal_width", lambda _: 80)
    monkeypatch.setattr(terminal, "write_out", lambda text: typer.echo(text, nl=False, err=True))
    monkeypatch.setattr("executor.commands.terminal.sys.stdout", SimpleNamespace(isatty=lambda: True, encoding="utf-8"))
    terminal.say_theirs(f"  asked by  bob, {FORGED}")
    assert all(row.startswith(("  asked by  bob, ", " | ")) or not row for row in rows(screen()))


def test_id_in_a_table_is_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"LEASE-20260105-09000{n}" for n in range(3)]
    forged = FORGED.replace("x", "x ")
    cells = [(name, "web", "ROLLBACK_FAILED", "ada, cp14, cp18", forged, "2026-01-05T09:00:00Z") for name in names]
    terminal.say_table(("lease", "target", "state", "cosigners", "note", "since"), cells)
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    # Each row begins with its id, whole, and what was folded stays below its own column.
    begun = [line.split()[:3] for line in lines if not line.startswith(" ")]
    assert begun == [["lease", "target", "state"], *([name, "web", "ROLLBACK_FAILED"] for name in names)]
    assert all(line.startswith(" " * 40) for line in lines if line.startswith(" "))
