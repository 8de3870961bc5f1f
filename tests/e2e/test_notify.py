"""Notifications with the real apprise, real processes, and a web hook on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from console import Console
from shop import CHECKOUT, PATIENCE_S, Shop
from webhooks import Hook

SECRET = "user:hunter2@"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    # A proxy of the machine would get what is meant for the hook.
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()
        end_notifier(shop)


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as hook:
        yield hook


def end_notifier(shop: Shop) -> None:
    """End the notifier that an executor may have left behind, by the process id in its lock file."""
    with suppress(OSError, ValueError, psutil.Error):
        process = psutil.Process(int((shop.console.home / "run" / "notify.lock").read_text()))
        if "notify" in process.cmdline():
            process.kill()


def addresses(shop: Shop, mode: int = 0o600, **channels: str) -> Path:
    path = shop.console.home / "notify.yaml"
    path.write_text(json.dumps({name: [address] for name, address in channels.items()}))
    path.chmod(mode)
    return path


def begin(shop: Shop, **notify: list[str]) -> None:
    shop.begin(notify=notify)


def run_once(shop: Shop) -> str:
    return shop.run("notify", "run", "--until-idle")


def test_lease_is_told_once(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    addresses(shop, team=hook.address())
    lease = shop.propose("1", "--why", "<b>\x1b[2J @everyone [x](https://evil.example)")
    log = run_once(shop)
    assert f"sent LEASE_PROPOSED to team ({hook.ids()[0][:12]})" in log
    run_once(shop)
    [message] = hook.messages()
    assert (message["title"], message["type"]) == (f"{lease} on web", "info")
    assert 'Why: "(b)(U+001B)(2J (at)everyone (x)(https: //evil.example)"' in message["message"]
    found = shop.console.run("notify", "status", "--json").json
    assert (found["pending"], found["sent"], found["given_up"], found["running"]) == (0, 1, 0, False)


def test_server_that_fails_gets_it_again_with_the_same_id(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    addresses(shop, team=hook.address())
    # One failure: the waits after it double, and are tested with a clock that is handed in.
    hook.answers = [500]
    shop.propose("1")
    process = shop.start("notify", "run")
    hook.wait(2)
    shop.until(lambda: shop.console.run("notify", "status", "--json").json["sent"] == 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.splitlines() == ["interrupted; what was not sent is sent by the next calyx notify run"]
    assert "refused; attempt 1, again in" in out
    assert len(set(hook.ids())) == 1


def test_channel_that_hangs_delays_no_other(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["slow", "team"])
    hook.held = {"/slow"}
    addresses(shop, slow=hook.address("/slow"), team=hook.address("/team"))
    leases = [shop.propose("1"), shop.propose("2")]
    # Nobody gives up the one that hangs: so what comes meanwhile did not wait for its end.
    code = (
        "import executor.notify.post as post\nfrom executor.main import main\n"
        "post.SenderProcess.__init__.__defaults__ = (600,)\nmain()"
    )
    process = shop.start("notify", "run", command=[sys.executable, "-c", code])
    hook.wait(2, "/team")
    assert [title.split()[0] for title in hook.titles("/team")] == leases
    assert len(hook.messages("/slow")) <= 1
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)


def test_notifier_killed_while_it_sends_sends_the_same_id_again(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    hook.held = {"/hook"}
    addresses(shop, team=hook.address())
    shop.propose("1")
    process = shop.start("notify", "run")
    hook.wait(1)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    hook.release()
    run_once(shop)
    assert len(hook.messages()) == 2
    assert len(set(hook.ids())) == 1
    run_once(shop)
    assert len(hook.messages()) == 2


def test_outbox_that_is_deleted_tells_the_last_day_again_with_the_same_ids(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    addresses(shop, team=hook.address())
    shop.propose("1")
    run_once(shop)
    for path in (shop.console.home / "run").glob("outbox.db*"):
        path.unlink()
    run_once(shop)
    assert len(hook.messages()) == 2
    assert len(set(hook.ids())) == 1


def test_addresses_are_in_no_log_error_status_or_command_line(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    hook.held = {"/hook"}
    hook.answers = [500]
    addresses(shop, team=hook.address(user=SECRET), wrong="nosuchscheme://hunter2")
    shop.propose("1")
    process = shop.start("notify", "run")
    hook.wait(1)
    lines = [psutil.Process(process.pid).cmdline(), *(one.cmdline() for one in psutil.Process(process.pid).children())]
    assert len(lines) == 2
    hook.release()
    shop.until(lambda: "refused" in shop.console.done("notify", "status"))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    tried = shop.console.run("notify", "test", "wrong")
    assert (tried.code, "address 1 of wrong: bad_address" in tried.out) == (5, True)
    status = shop.console.done("notify", "status", "--json")
    opened = addresses(shop, mode=0o644, team=hook.address(user=SECRET))
    shop.console.refused("notify", "run", code="addresses_open", ends=1)
    refused = shop.console.run("notify", "status")
    opened.chmod(0o600)
    said = f"{lines}{out}{err}{tried}{status}{refused}"
    assert "hunter2" not in said
    assert "127.0.0.1" not in said


def test_try_of_a_channel_says_whether_it_arrived(shop: Shop, hook: Hook) -> None:
    begin(shop)
    addresses(shop, team=hook.address())
    assert shop.console.done("notify", "test", "team") == "address 1 of team: delivered\n"
    hook.answers = [500]
    said = shop.console.run("notify", "test", "team")
    assert (said.code, "address 1 of team: refused" in said.out) == (5, True)
    assert len(set(hook.ids())) == 2
    shop.console.refused("notify", "test", "oncall", code="unknown_channel", ends=1)


def test_status_names_the_channels_that_have_no_address(shop: Shop, hook: Hook) -> None:
    begin(shop, HALTED=["oncall", "team"])
    addresses(shop, team=hook.address())
    found = shop.console.run("notify", "status", "--json").json
    assert (found["channels"], found["unknown_channels"]) == ({"team": 1}, ["oncall"])
    shop.console.refused("notify", "run", "--home", str(shop.root / "none"), code="no_addresses", ends=1)


def test_executor_starts_a_notifier_that_sends_its_last_words_and_ends(shop: Shop, hook: Hook) -> None:
    begin(shop, all=["team"])
    addresses(shop, team=hook.address())
    lease = shop.propose("1")
    shop.approve(lease)
    shop.run("executor", "run", "--until-idle")
    shop.until(lambda: f"{lease} on web: completed" in hook.titles())
    assert f"{lease} is claimed" in hook.titles()
    shop.until(lambda: not shop.console.run("notify", "status", "--json").json["running"])
    assert len(set(hook.ids())) == len(hook.ids())


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_executor_runs_on_with_a_notifier_that_cannot_work(shop: Shop, mode: int) -> None:
    begin(shop, all=["team"])
    # Open to others the notifier dies at once; else it never reaches anybody.
    addresses(shop, mode=mode, team="json://127.0.0.1:1/")
    lease = shop.propose("1")
    shop.approve(lease)
    out = shop.run("executor", "run", "--until-idle")
    assert "COMPLETED" in out
    assert shop.phase(lease) == "COMPLETED"
    log = (shop.console.home / "run" / "notify.log").read_text()
    assert ("addresses_open" if mode == 0o644 else "could not send") in log
    assert "127.0.0.1" not in log


def test_second_notifier_is_refused(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    addresses(shop, team=hook.address())
    shop.propose("1")
    process = shop.start("notify", "run")
    hook.wait(1)
    shop.console.refused("notify", "run", code="already_running", ends=5)
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    process.communicate(timeout=PATIENCE_S)


def test_only_a_process_that_sends_imports_apprise(shop: Shop, hook: Hook) -> None:
    begin(shop, LEASE_PROPOSED=["team"])
    addresses(shop, team=hook.address())
    shop.propose("1")
    code = (
        "import sys\nfrom executor.command_line import app\n"
        "app(['notify', 'run', '--until-idle'], standalone_mode=False)\n"
        "sys.exit('apprise is here' if 'apprise' in sys.modules else 0)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert len(hook.messages()) == 1
