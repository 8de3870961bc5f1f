"""`calyx` as people and service managers run it: real processes, real keys, real services, signals and terminals."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from children import at_a_desk
from console import Console
from shop import PATIENCE_S, Shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()


def test_from_nothing_to_deployed_and_back(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1")
    shop.approve(lease)
    log = shop.run("executor", "run", "--until-idle")
    assert "VERIFIED_2KEY" in log
    assert "COMPLETED" in log
    assert shop.phase(lease) == "COMPLETED"
    assert (shop.root / "srv" / "current" / "version").read_text() == "1"
    assert f"{lease} on web: COMPLETED at 100 %" in shop.console.done("watch", lease)
    shop.console.done("rollback", lease, "--reason", "a test")
    shop.run("executor", "run", "--until-idle", ends=3)
    assert not (shop.root / "srv" / "current").exists()
    assert shop.console.run("watch", lease).code == 3
    size = shop.console.size()
    for verb in ("rollback", "abort", "pause"):
        assert f"{lease} is ROLLED_BACK already" in shop.console.done(verb, lease)
    assert shop.console.size() == size
    assert shop.console.run("audit", "--full", "--json").json["ok"]


def test_orders_reach_a_running_executor_and_an_interrupt_loses_nothing(shop: Shop) -> None:
    shop.begin(start="command", bake_s=4)
    lease = shop.propose("1")
    shop.approve(lease)
    executor = shop.start("executor", "run")
    shop.until(lambda: shop.phase(lease) == "CLAIMED")
    assert [row["command"] for row in shop.console.run("inbox", "--json").json] == [f"calyx start {lease}"]
    second = shop.console.run("executor", "run")
    assert (second.code, "error: already_running: " in second.err) == (5, True)
    shop.console.done("start", lease, "--yes")
    shop.until(lambda: shop.phase(lease) == "BAKING")
    shop.console.done("pause", lease)
    shop.until(lambda: shop.phase(lease) == "PAUSED")
    assert "PAUSED" in shop.console.done("watch", lease, "--once")
    executor.send_signal(signal.SIGINT)
    out, err = executor.communicate(timeout=PATIENCE_S)
    assert executor.returncode == 130, err
    assert err.splitlines() == ["interrupted; what is under way goes on with the next calyx executor run"]
    assert "STARTED" in out
    assert shop.phase(lease) == "PAUSED"
    shop.console.done("resume", lease, "--yes")
    shop.run("executor", "run", "--until-idle")
    assert shop.phase(lease) == "COMPLETED"


def test_interrupt_at_the_question_signs_nothing(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1")
    before = shop.console.size()
    screen, code = look(["approve", lease], b"\x03")
    assert code == 130
    assert "interrupted" in screen
    assert "Traceback" not in screen
    assert shop.console.size() == before


def test_yes_beforehand_is_no_look_even_at_a_terminal(shop: Shop) -> None:
    shop.begin(look=True)
    digest = shop.console.run("inbox", "--json").json[0]["digest"]
    before = shop.console.size()
    screen, code = look(["approve", digest, "--yes"])
    assert (code, "error: look_needed" in screen) == (1, True), screen
    assert "You sign" not in screen
    assert shop.console.size() == before
    screen, code = look(["approve", digest], b"y\n")
    assert code == 0, screen
    assert "it is in force" in screen


def test_answer_from_a_pipe_is_no_look_even_if_a_terminal_shows_it(shop: Shop) -> None:
    shop.begin(look=True)
    digest = shop.console.run("inbox", "--json").json[0]["digest"]
    before = shop.console.size()
    # A shell that feeds the answer in: the terminal shows it all, and nobody typed anything.
    feed = f"echo y | {sys.executable} -m executor approve {digest}"
    screen, code = look([], command=["sh", "-c", feed])
    assert (code, "error: look_needed" in screen) == (1, True), screen
    assert shop.console.size() == before


def test_line_that_a_terminal_would_wrap_cannot_pose_as_one_of_ours(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1", "--why", "x" * 200 + "You sign" + "y" * 80)
    screen, _ = look(["show", lease])
    lines = screen.replace("\r", "").split("\n")
    assert all(len(line) < 80 for line in lines)
    assert any(line.startswith(" | ") for line in lines)
    assert not any(line.startswith("You sign") for line in lines)


def look(arguments: list[str], typed: bytes = b"", command: Sequence[str] = ()) -> tuple[str, int]:
    """Run `calyx` on a terminal of its own; `typed` is typed at the question. What the screen showed, and the end."""
    screen, code = at_a_desk(arguments, [(b"[y/N]", typed)] if typed else [], command)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen), code


def test_reader_that_has_enough_ends_it_quietly(shop: Shop) -> None:
    shop.begin()
    process = shop.start("ledger", "log")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE_S) == 141


def test_terminal_table_shows_what_the_pipe_shows(shop: Shop) -> None:
    shop.begin()
    lease = shop.propose("1", "--why", "\x1b[2Jgone")
    screen, code = look(["inbox"])
    assert code == 0
    assert lease in screen
    screen, _ = look(["show", lease])
    assert "<U+001B>[2Jgone" in screen
    assert "\x1b" not in screen
