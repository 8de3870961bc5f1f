"""An emergency from the first command to the last: two humans, one of them with a token, a real rollout, and the review
that is owed afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authenticator import TOUCHED, VERIFIED, Token
from console import Console
from shop import PATIENCE_S, Shop
from webhooks import Hook

from keys.openssh_public import format_public, parse_blob, plain_key
from keys.sshsig import NAMESPACE_APPROVAL, format_armor

CLAUSE = {"enabled": True, "max_validity_s": 600, "review_within_s": 3600, "user_verification": True}
GLASS = ("--break-glass", "--reason", "the shop is down")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(tmp_path, monkeypatch)


def enrol_ben(console: Console, token: Token) -> None:
    """Another approver, whose token must verify him at each signature."""
    path = console.root / "ben.pub"
    path.write_text(f"{format_public(parse_blob(token.blob))}\n")
    role = ("--kind", "human", "--role", "approver", "--user-verification")
    console.done("trust", "propose", "--enrol", f"ben={path}", *role, "--approve", "--yes")


def sign_with_token(console: Console, lease: str, token: Token, flags: int = TOUCHED | VERIFIED) -> Path:
    """What ben brings back from the machine where his token is."""
    directory = console.root / f"for-ben-{flags}-{console.size()}"
    console.done("approve", lease, "--prepare", str(directory), "--as", "ben")
    signature = token.sign(NAMESPACE_APPROVAL, (directory / "to-sign").read_bytes(), flags=flags)
    (directory / "to-sign.sig").write_text(format_armor(signature))
    return directory


def steps(console: Console, lease: str) -> dict[int, Any]:
    return {step["step"]: step for step in console.run("check", lease, "--json").json["steps"]}


def test_whole_story_of_an_emergency(shop: Shop) -> None:
    console, token = shop.console, Token()
    with Hook() as hook:
        shop.begin(break_glass={**CLAUSE, "review_within_s": 5}, start="auto")
        path = console.home / "notify.yaml"
        path.write_text(json.dumps({"somebody": [hook.address()]}))
        path.chmod(0o600)
        enrol_ben(console, token)
        lease = shop.propose("1", *GLASS, "--valid-for", "5m")
        [waiting] = console.run("inbox", "--json").json
        assert (waiting["lease_id"], waiting["urgent"]) == (lease, True)
        assert "BREAK-GLASS" in console.done("show", lease)
        assert "the shop is down" in console.done("show", lease)
        console.done("approve", lease, "--yes")
        assert steps(console, lease)[5]["missing"] == "human"
        console.done("attach", str(sign_with_token(console, lease, token)))
        assert "BREAK-GLASS" in console.done("check", lease)
        assert "COMPLETED" in shop.run("executor", "run", "--until-idle")
        assert shop.phase(lease) == "COMPLETED"
        assert "BREAK-GLASS" in console.done("watch", lease)
        # The policy names nobody, and everybody hears of it.
        titles = [f"BREAK-GLASS: {lease} on web", f"BREAK-GLASS: {lease} is claimed on web"]
        shop.until(lambda: hook.titles()[:2] == titles)
    shop.until(lambda: console.run("status", "--json").json["owed_reviews"][0]["overdue"])
    assert f"OVERDUE review of {lease}" in console.done("status")
    first = console.run("inbox", "--json").json[0]
    assert (first["kind"], first["lease_id"], first["urgent"]) == ("review", lease, True)
    later = shop.propose("2")
    console.done("approve", later, "--yes")
    assert steps(console, later)[8]["code"] == "review_overdue"
    # Another emergency is possible all the same.
    again = shop.propose("3", *GLASS)
    assert steps(console, again)[8]["code"] == "ok"
    agent = shop.start("agent", "run", "cp18")
    shop.until(lambda: console.run("status", "--json").json["owed_reviews"] == [])
    assert steps(console, later)[8]["code"] == "ok"
    agent.terminate()
    agent.communicate(timeout=PATIENCE_S)
    assert console.run("audit", "--full", "--json").json["ok"]


def test_no_emergency_under_a_policy_without_one(console: Console) -> None:
    console.begin(break_glass={**CLAUSE, "enabled": False})
    source = console.root / "source"
    source.mkdir()
    (source / "app.py").write_text("print('one')\n")
    propose = ("propose", "web", "--dir", str(source))
    console.refused(*propose, *GLASS, code="break_glass_disabled", ends=1)
    console.refused(*propose, "--break-glass", code="reason_missing", ends=2)
    console.refused(*propose, "--break-glass", "--reason", "  ", code="reason_missing", ends=2)
    console.refused(*propose, "--reason", "the shop is down", code="reason_misplaced", ends=2)


def test_emergency_that_could_never_be_claimed_is_not_proposed(console: Console) -> None:
    console.begin(break_glass={**CLAUSE, "user_verification": False})
    source = console.root / "source"
    source.mkdir()
    (source / "app.py").write_text("print('one')\n")
    propose = ("propose", "web", "--dir", str(source), *GLASS)
    # Ada is alone.
    console.refused(*propose, code="quorum_unmet", ends=1)
    enrol_ben(console, Token())
    console.refused(*propose, "--valid-for", "11m", code="break_glass_too_long", ends=1)
    console.done(*propose, "--valid-for", "10m")


def test_emergency_without_any_token_is_not_proposed(console: Console) -> None:
    console.begin(break_glass=CLAUSE)
    path = console.root / "ben.pub"
    path.write_text(f"{format_public(plain_key(Token().raw))}\n")
    role = ("--kind", "human", "--role", "approver")
    console.done("trust", "propose", "--enrol", f"ben={path}", *role, "--approve", "--yes")
    source = console.root / "source"
    source.mkdir()
    (source / "app.py").write_text("print('one')\n")
    said = console.refused("propose", "web", "--dir", str(source), *GLASS, code="quorum_unmet", ends=1)
    assert "no approver has one" in said.err


def test_windows_of_an_emergency_fit_the_policy(console: Console) -> None:
    console.begin(break_glass=CLAUSE)
    enrol_ben(console, Token())
    now = console.clock.now
    for more, seconds in (((), 600), (("--valid-for", "90s"), 90)):
        name = console.propose(None, *GLASS, *more)
        lease = console.state().find_lease(name)
        assert lease is not None
        asked = lease.lease
        assert asked.approve_by == asked.execute_by
        assert asked.rule == "break_glass"
        console.clock.now = now + seconds
        assert steps(console, asked.id)[3]["ok"]
        console.clock.now = now + seconds + 1
        assert steps(console, asked.id)[3]["code"] == "lease_expired"
        console.clock.now = now = now + 2000


def test_token_that_was_only_touched_is_refused_and_a_plain_pair_does_not_do(console: Console) -> None:
    token = Token()
    console.begin(break_glass=CLAUSE)
    enrol_ben(console, token)
    lease = console.propose(None, *GLASS)
    console.done("approve", lease, "--yes")
    console.refused("attach", str(sign_with_token(console, lease, token, TOUCHED)), code="user_unverified", ends=1)
    assert steps(console, lease)[5]["code"] == "quorum_unmet"
    console.done("attach", str(sign_with_token(console, lease, token)))
    assert console.run("check", lease).code == 0
