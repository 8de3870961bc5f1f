"""Saying no: refused before the key is opened where it changes nothing, and then it says why, where and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from console import Console

from executor.commands.person import load_person
from executor.homes.home import Home
from keys.openssh import new_private_key, store_private_key
from keys.signer import Signer
from policies.law.two_key import check_two_key
from policies.submitter import Draft, Receipt


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


def say(console: Console, who: str, kind: str, fields: dict[str, Any], about: tuple[str, str] | None = None) -> Receipt:
    """A machine's statement, with its key in the home."""
    with Home(console.home) as home:
        registrar = home.open_registrar()
        return registrar.submit(home.load_signer(who, registrar.sync()), Draft(kind, fields, about))


def claim(console: Console, name: str) -> int:
    """Both keys on a lease, and its claim; the entry of that."""
    console.done("approve", name, "--yes")
    lease = console.state().find_lease(name)
    assert lease is not None
    about = (lease.lease.id, lease.digest)
    fields = {"role": "sentinel", "verdict": "pass", "summary": "fine", "findings": None}
    review = say(console, "cp14", "review", fields, about)
    say(console, "cp14", "cosignature", {"role": "sentinel", "review": review.digest}, about)
    say(console, "cp20", "term", {"epoch": 1, "reason": "start"})
    verified = check_two_key(console.state(), lease.digest, console.clock.now)
    claimed = {
        "type": "VERIFIED_2KEY",
        "epoch": 1,
        "counted": [vote.seq for vote in verified.counted],
        "cohorts": [{"tier": tier, "instances": list(names)} for tier, names in verified.cohorts.items()],
        "seen": [{"tree": "absent", "instances": list(lease.before)}],
        "reverse": None,
    }
    return say(console, "cp20", "claim", claimed, about).seq


def bake(console: Console, name: str) -> None:
    """The first tier of a claimed deployment, from its start to its bake."""
    lease = console.state().find_lease(name)
    assert lease is not None
    deployment = console.state().deployments[lease.digest]
    tier, names = next(iter(deployment.cohorts.items()))
    applied = [
        {"type": "INSTANCE_APPLIED", "tier": tier, "instance": each, "tree": lease.after[each]} for each in names
    ]
    events: list[dict[str, Any]] = [
        {"type": "STARTED"},
        {"type": "BASELINE", "values": None},
        {"type": "TIER_INTENT", "tier": tier},
        *applied,
        {"type": "TIER_APPLIED", "tier": tier},
        {"type": "BAKE_STARTED", "tier": tier},
    ]
    for detail in events:
        who, epoch = ("cp19", None) if detail["type"] == "BASELINE" else ("cp20", 1)
        say(console, who, "event", {"epoch": epoch, "detail": detail}, (lease.lease.id, lease.digest))


def lose_the_key(console: Console) -> None:
    """From here on whoever opens the person's key fails."""
    shutil.move(console.home / "keys" / "ada.key", console.root / "ada.key")


@pytest.mark.parametrize("verb", ["approve", "deny", "withdraw"])
def test_no_after_the_claim_points_to_the_rollback(console: Console, verb: str) -> None:
    lease = console.propose()
    seq = claim(console, lease)
    lose_the_key(console)
    reason = ["--reason", "no"] if verb == "deny" else []
    said = console.refused(verb, lease, *reason, "--yes", code="lease_consumed", ends=1)
    assert f"(rule claim, step 8, entry {seq})" in said.err
    assert f"hint: to take it back: calyx rollback {lease}" in said.err
    assert "You sign" not in said.out


def test_no_to_what_has_ended_says_how_it_ended(console: Console) -> None:
    lease = console.propose()
    seq = claim(console, lease)
    found = console.state().find_lease(lease)
    assert found is not None
    event = {"epoch": 1, "detail": {"type": "ABORTED", "cause": "command", "text": "enough"}}
    say(console, "cp20", "event", event, (lease, found.digest))
    lose_the_key(console)
    said = console.refused("deny", lease, "--reason", "no", code="lease_consumed", ends=1)
    assert "its deployment is ABORTED" in said.err
    assert f"entry {seq})" in said.err


@pytest.mark.parametrize("verb", ["pause", "abort", "rollback"])
def test_order_toward_safety_that_comes_second_is_no_failure(console: Console, verb: str) -> None:
    lease = console.propose()
    claim(console, lease)
    found = console.state().find_lease(lease)
    assert found is not None
    event = {"epoch": 1, "detail": {"type": "ABORTED", "cause": "command", "text": "enough"}}
    ended = say(console, "cp20", "event", event, (lease, found.digest)).seq
    lose_the_key(console)
    said = console.done(verb, lease)
    assert said == f"{lease} is ABORTED already, since entry {ended}; nothing is added\n"
    assert console.size() == ended + 1


def test_order_that_the_executor_was_faster_than_is_no_failure(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = console.propose()
    claim(console, lease)
    found = console.state().find_lease(lease)
    assert found is not None
    ended = []

    def faster(place: Home, *rest: Any) -> Signer:
        event = {"epoch": 1, "detail": {"type": "ABORTED", "cause": "command", "text": "enough"}}
        ended.append(say(console, "cp20", "event", event, (lease, found.digest)).seq)
        return load_person(place, *rest)

    monkeypatch.setattr("executor.commands.signing.load_person", faster)
    said = console.done("abort", lease)
    assert said.endswith(f"{lease} is ABORTED already, since entry {ended[0]}; nothing is added\n")
    assert console.size() == ended[0] + 1


@pytest.mark.parametrize("verb", ["approve", "deny", "withdraw"])
def test_no_after_a_denial_says_who_denied_it_and_where(console: Console, verb: str) -> None:
    lease = console.propose()
    console.done("deny", lease, "--reason", "not today", "--yes")
    at = console.size() - 1
    lose_the_key(console)
    reason = ["--reason", "no"] if verb == "deny" else []
    said = console.refused(verb, lease, *reason, "--yes", code="lease_denied", ends=1)
    assert f"was denied by ada in entry {at} (rule objection, step 7, entry {at})" in said.err


def test_no_to_nothing_is_refused_before_the_key(console: Console) -> None:
    lose_the_key(console)
    console.refused("deny", "LEASE-20990101-000000", "--reason", "no", code="unknown_lease", ends=1)
    console.refused("withdraw", "LEASE-20990101-000000", code="unknown_id", ends=1)


def test_lease_that_expired_needs_no_denial(console: Console) -> None:
    lease = console.propose(None, "--valid-for", "1m")
    console.clock.tick(3 * 3600)
    # The clock of this machine alone keeps nobody from saying no.
    console.done("withdraw", lease, "--yes")
    lose_the_key(console)
    said = console.refused("deny", lease, "--reason", "no", code="lease_expired", ends=1)
    assert "rule time, step 3, entry" in said.err


def test_withdrawal_says_what_it_takes_back(console: Console) -> None:
    lease = console.propose()
    assert "you had approved nothing here" in console.done("withdraw", lease, "--yes")
    console.done("approve", lease, "--yes")
    at = console.size() - 1
    assert f"it takes back what you signed in entry {at}" in console.done("withdraw", lease, "--yes")


def test_withdrawal_of_what_is_in_force_names_the_entry(console: Console) -> None:
    proposal = next(iter(console.state().proposals.values()))
    lose_the_key(console)
    said = console.refused("withdraw", proposal.digest[:12], "--yes", code="already_in_force", ends=1)
    assert f"(rule governance, entry {proposal.decided_seq})" in said.err
    assert "hint: to change it: propose a fleet" in said.err
    console.refused("deny", proposal.digest[:12], "--reason", "no", code="unknown_lease", ends=1)


def test_approval_on_a_fleet_that_was_replaced_is_refused_before_the_key(console: Console) -> None:
    lease = console.propose()
    console.done("fleet", "propose", str(console.write_fleet(3)), "--approve", "--yes")
    at = console.size() - 1
    lose_the_key(console)
    said = console.refused("approve", lease, "--yes", code="stale_fleet", ends=1)
    assert f"another fleet is in force since entry {at} (rule two_key, step 2, entry {at})" in said.err
    assert "hint: propose again" in said.err


def test_approval_after_its_window_is_refused_before_the_key(console: Console) -> None:
    lease = console.propose(None, "--valid-for", "1m")
    console.clock.tick(61)
    lose_the_key(console)
    said = console.refused("approve", lease, "--yes", code="approval_expired", ends=1)
    assert "(rule time, step 3, entry" in said.err


def test_order_toward_safety_asks_nothing_and_one_that_leads_on_asks(console: Console) -> None:
    lease = console.propose()
    claim(console, lease)
    assert "You sign" in console.done("pause", lease)
    before = console.size()
    assert console.run("resume", lease, typed="n\n").code == 1
    assert console.size() == before
    assert "verb" in console.done("resume", lease, typed="y\n")
    console.done("pause", lease)
    console.done("resume", lease, "--yes")
    console.done("abort", lease)


@pytest.mark.parametrize("verb", ["start", "promote"])
def test_order_that_leads_on_is_not_signed_without_an_answer(console: Console, verb: str) -> None:
    lease = console.propose(None, "--manual-start" if verb == "start" else "--manual-promotion")
    claim(console, lease)
    if verb == "promote":
        bake(console, lease)
    before = console.size()
    assert console.run(verb, lease, typed="n\n").code == 1
    assert console.size() == before
    assert f"{verb} of {lease}: entry {before}" in console.done(verb, lease, typed="y\n")


def test_order_that_cannot_be_obeyed_is_refused_before_the_key(console: Console) -> None:
    lease = console.propose()
    seq = claim(console, lease)
    lose_the_key(console)
    said = console.refused("resume", lease, "--yes", code="bad_command", ends=1)
    assert f"{lease} is not paused; it is CLAIMED (rule command, entry {seq})" in said.err
    assert f"hint: calyx watch {lease} --once" in said.err
    said = console.refused("promote", lease, "--yes", code="bad_command", ends=1)
    assert f"{lease} is not baking a tier yet; it is CLAIMED" in said.err
    said = console.refused("start", lease, "--yes", code="bad_command", ends=1)
    assert f"{lease} waits for no command to start; it is CLAIMED" in said.err


def test_order_is_prepared_without_the_key(console: Console) -> None:
    lease = console.propose()
    claim(console, lease)
    lose_the_key(console)
    before = console.size()
    said = console.done("rollback", lease, "--prepare", str(console.root / "later"))
    assert "back by  2026-01-05T10:00:00Z" in said
    assert "statement-v1@station.calyx" in said
    assert console.size() == before


def test_second_approval_is_refused_before_the_question_and_names_the_first(console: Console) -> None:
    lease = console.propose()
    console.done("approve", lease, "--yes")
    at = console.size() - 1
    said = console.refused("approve", lease, typed="y\n", code="already_cosigned", ends=1)
    assert f"entry {at})" in said.err
    assert "You sign" not in said.out
    prepared = console.root / "twice"
    console.refused("approve", lease, "--prepare", str(prepared), code="already_cosigned", ends=1)
    assert not prepared.exists()


def test_approval_by_someone_who_is_no_approver_is_refused_before_the_question(console: Console) -> None:
    keys = console.root / "keys"
    keys.mkdir()
    key = keys / "bob"
    store_private_key(key, new_private_key(lambda size: b"\x09" * size))
    console.done("trust", "propose", "--enrol", f"bob={key}.pub", "--role", "governor", "--approve", "--yes")
    lease = console.propose()
    me = ("--as", "bob", "--key", str(key))
    for verb, more in (("approve", ()), ("deny", ("--reason", "no")), ("withdraw", ())):
        said = console.refused(verb, lease, *more, *me, typed="y\n", code="role_missing", ends=1)
        assert "You sign" not in said.out
    console.refused("approve", lease, "--as", "bob", "--prepare", str(keys / "dir"), code="role_missing", ends=1)
    assert not (keys / "dir").exists()


@pytest.mark.parametrize("verb", ["deny", "withdraw"])
def test_no_under_a_clock_that_went_back_is_taken_when_the_person_says_so(console: Console, verb: str) -> None:
    lease = console.propose()
    reason = ["--reason", "no"] if verb == "deny" else []
    console.clock.tick(-3600)
    said = console.refused(verb, lease, *reason, "--yes", code="clock_suspect", ends=5)
    assert "--accept-clock" in said.err
    console.done(verb, lease, *reason, "--yes", "--accept-clock")


def test_order_that_leads_on_under_a_clock_that_went_back_is_taken_when_the_person_says_so(console: Console) -> None:
    lease = console.propose()
    claim(console, lease)
    console.clock.tick(-3600)
    console.done("pause", lease)
    console.refused("resume", lease, "--yes", code="clock_suspect", ends=5)
    console.done("resume", lease, "--yes", "--accept-clock")


@pytest.mark.parametrize("verb", ["pause", "abort", "rollback"])
def test_order_toward_safety_under_a_clock_years_ahead_does_not_carry_the_ledger_there(
    console: Console, verb: str
) -> None:
    lease = console.propose()
    claim(console, lease)
    console.clock.tick(3 * 365 * 86_400)
    said = console.refused(verb, lease, code="clock_suspect", ends=5)
    assert "--accept-clock" in said.err
    console.done(verb, lease, "--accept-clock")


def test_check_says_what_the_executor_found_beside_the_rule(console: Console) -> None:
    lease = console.propose()
    assert console.run("check", lease, "--json").json["preflight"] == []
    found = console.state().find_lease(lease)
    assert found is not None
    say(console, "cp20", "term", {"epoch": 1, "reason": "start"})
    detail = {"type": "PREFLIGHT_FAILED", "code": "tree_dirty", "instance": "web-1", "text": "app.py was changed"}
    entry = say(console, "cp20", "event", {"epoch": 1, "detail": detail}, (lease, found.digest))
    said = console.run("check", lease, "--json").json
    assert said["preflight"] == [{"seq": entry.seq, "code": "tree_dirty", "text": "app.py was changed"}]
