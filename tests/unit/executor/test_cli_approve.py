"""Approving at the command line: what is shown, what is refused, and that nothing is signed by accident."""

from __future__ import annotations

import unicodedata
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from console import Console

from executor.commands import approve, signing
from executor.homes.home import Home
from executor.process_lock import ProcessLock
from keys.openssh import load_private_key, new_private_key, store_private_key
from policies.submitter import Draft


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


def new_key(path: Path, passphrase: bytes | None = None) -> Path:
    store_private_key(path, new_private_key(lambda size: b"\x09" * size), passphrase)
    return path


def test_approval_names_its_entry_and_what_is_missing(console: Console) -> None:
    lease = console.propose()
    said = console.done("approve", lease, typed="y\n")
    assert f"Approved: entry {console.size() - 1}" in said
    assert "still missing: step 5: quorum_unmet: no sentinel's (CP14) or validator's (CP18) key" in said
    vote = console.state().find_lease(lease)
    assert vote is not None
    assert [v.signer.principal for v in vote.ballot.votes] == ["ada"]


def runs(console: Console, *names: str) -> ExitStack:
    """Locks that say that these run, until they are let go."""
    stack = ExitStack()
    with Home(console.home) as home:
        for name in names:
            stack.enter_context(ProcessLock(home.lock_path(name), name))
    return stack


def test_approval_says_that_nobody_reviews_and_nobody_deploys(console: Console) -> None:
    said = console.done("approve", console.propose(), "--yes")
    assert "  it does not run before cp14 has reviewed it; not running here: calyx agent run cp14\n" in said
    assert "no executor runs here: calyx executor run deploys it" in said
    assert "nothing here: calyx agent run NAME reviews" in console.done("status")


def test_approval_that_is_made_is_none_the_worse_for_advice_that_fails(console: Console) -> None:
    lease = console.propose()
    with Home(console.home) as home:
        path = home.lock_path("cp20")
    path.unlink(missing_ok=True)
    path.symlink_to(path)
    said = console.done("approve", lease, "--yes")
    assert "Approved: entry" in said
    assert "executor" not in said.partition("Approved: entry")[2]


BOTH, EITHER = ["sentinel", "validator"], list[str]()


@pytest.mark.parametrize(
    ("reviews", "names", "who"),
    [
        (["sentinel"], ["cp14"], "cp14 has reviewed it; running here: cp14"),
        (BOTH, ["cp14", "cp18", "cp20"], "cp14 and cp18 have reviewed it; running here: cp14 and cp18"),
        (BOTH, ["cp14"], "cp14 and cp18 have reviewed it; not running here: calyx agent run cp18"),
        (BOTH, ["notify"], "not running here: calyx agent run cp14 and calyx agent run cp18"),
        (EITHER, ["cp18"], "cp14 or cp18 has reviewed it; running here: cp18"),
        (EITHER, ["cp14", "cp18"], "cp14 or cp18 has reviewed it; running here: cp14 and cp18"),
        (EITHER, ["cp20"], "has reviewed it; not running here: calyx agent run cp14 or calyx agent run cp18"),
    ],
)
def test_approval_says_who_will_review_and_who_deploys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reviews: list[str], names: list[str], who: str
) -> None:
    console = Console(tmp_path, monkeypatch)
    console.begin(reviews=reviews)
    lease = console.propose()
    with runs(console, *names):
        said = console.done("approve", lease, "--yes")
        assert "  it does not run before " in said
        assert f"{who}\n" in said
        assert ("no executor runs here" in said) == ("cp20" not in names)
        assert ", ".join(names) in console.done("status")


def test_approval_says_nothing_of_reviews_where_there_is_one(console: Console) -> None:
    lease = console.propose()
    said = console.state().find_lease(lease)
    assert said is not None
    with Home(console.home) as home, runs(console, "cp20"):
        registrar = home.open_registrar(console.clock)
        signer = home.load_signer("cp14", registrar.sync())
        review = {"role": "sentinel", "verdict": "pass", "summary": "looked at", "findings": None}
        registrar.submit(signer, Draft("review", review, (lease, said.digest)))
        assert "reviewed" not in console.done("approve", lease, "--yes")


def test_approval_of_a_proposal_speaks_of_no_agent(console: Console) -> None:
    console.done("policy", "propose", "--deactivate", "--yes")
    (proposal,) = [each for each in console.state().proposals.values() if each.decided_seq is None]
    said = console.done("approve", proposal.digest[:12], "--yes")
    assert said.endswith("it is in force\n")


def test_what_is_shown_is_what_is_signed(console: Console) -> None:
    lease = console.propose({"app.py": "print('two')\n"}, "--why", "the shop is slow")
    said = console.done("approve", lease, typed="y\n")
    found = console.state().find_lease(lease)
    assert found is not None
    for text in (found.digest, "+print('two')", "the shop is slow", "web-1, web-2", "approval-v1@station.calyx", "ada"):
        assert text in said


@pytest.mark.parametrize("typed", ["", "n\n", "\n", "yess\n", "no\ny\n", "y e s\n"])
def test_anything_but_yes_signs_nothing(console: Console, typed: str) -> None:
    lease = console.propose()
    before = console.size()
    assert console.run("approve", lease, typed=typed).code == 1
    assert console.size() == before


def test_interrupt_at_the_question_signs_nothing(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = console.propose()
    before = console.size()

    def interrupt(_: str) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(signing, "ask", interrupt)
    said = console.run("approve", lease)
    assert said.code == 130
    assert said.err.splitlines()[-1] == "interrupted"
    assert console.size() == before


def test_key_of_nobody_is_refused(console: Console, tmp_path: Path) -> None:
    lease = console.propose()
    key = new_key(tmp_path / "stranger")
    said = console.refused("approve", lease, "--yes", "--key", str(key), code="key_not_enrolled", ends=1)
    assert "enrolled for nobody" in said.err


def test_key_of_another_principal_is_refused(console: Console) -> None:
    lease = console.propose()
    key = console.home / "keys" / "cp14.key"
    said = console.refused("approve", lease, "--yes", "--key", str(key), code="key_not_enrolled", ends=1)
    assert "enrolled for cp14, not for ada" in said.err


def test_human_who_is_not_enrolled_is_refused(console: Console) -> None:
    console.refused("approve", console.propose(), "--yes", "--as", "ben", code="unknown_principal", ends=1)


@pytest.mark.parametrize("machine", ["cp14", "cbo", "cp20"])
def test_machine_does_not_approve_at_the_command_line(console: Console, machine: str) -> None:
    console.refused("approve", console.propose(), "--yes", "--as", machine, code="not_a_human", ends=1)


def test_wrong_passphrase_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(tmp_path, monkeypatch)
    key = new_key(tmp_path / "id", b"right")
    answers = iter([b"right", b"right", b"not the one"])
    monkeypatch.setattr("executor.commands.person.ask_passphrase", lambda _: next(answers))
    policy = str(console.write_policy())
    console.done("init", "--human", "ada", "--key", str(key), "--no-recovery", "--policy", policy)
    console.done("fleet", "propose", str(console.write_fleet()), "--approve", "--yes")
    lease = console.propose()
    said = console.refused("approve", lease, "--yes", code="bad_passphrase", ends=1)
    assert "not the one" not in said.err
    # Nobody opens a key for what they have not seen.
    assert "Changed paths, as signed" in said.out
    assert "You sign" not in said.out


def test_fleet_that_is_approved_at_once_asks_for_the_passphrase_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(tmp_path, monkeypatch)
    asked: list[Path] = []

    def ask(path: Path) -> bytes:
        asked.append(path)
        return b"right"

    monkeypatch.setattr("executor.commands.person.ask_passphrase", ask)
    key = str(new_key(tmp_path / "id", b"right"))
    console.done("init", "--human", "ada", "--key", key, "--no-recovery", "--policy", str(console.write_policy()))
    asked.clear()
    console.done("fleet", "propose", str(console.write_fleet()), "--approve", "--yes")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("options", "why"), [(("--reason", "two more machines"), "two more machines"), ((), "no reason given")]
)
def test_fleet_is_approved_with_its_reason_in_sight(console: Console, options: tuple[str, ...], why: str) -> None:
    said = console.done("fleet", "propose", str(console.write_fleet(3)), *options, "--approve", "--yes")
    rows = [line.split(maxsplit=1) for line in said.splitlines()]
    assert ["reason", why] in rows
    newest = list(console.state().proposals.values())[-1]
    assert newest.proposal.reason == why


def test_claimed_lease_is_refused_before_anything_is_asked(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = console.propose()
    found = console.state().find_lease(lease)
    assert found is not None
    claimed = replace(found, claim_seq=7)
    monkeypatch.setattr(approve, "find_subject", lambda *_: claimed)
    said = console.refused("approve", lease, "--yes", code="lease_consumed", ends=1)
    assert "You sign" not in said.out


def test_denied_lease_is_refused_before_anything_is_asked(console: Console) -> None:
    lease = console.propose()
    console.done("deny", lease, "--reason", "no", "--yes")
    said = console.refused("approve", lease, "--yes", code="lease_denied", ends=1)
    assert "You sign" not in said.out


def test_proposal_in_force_is_refused_before_anything_is_asked(console: Console) -> None:
    proposal = next(iter(console.state().proposals))
    said = console.refused("approve", proposal[:12], "--yes", code="already_in_force", ends=1)
    assert "You sign" not in said.out


def test_what_only_the_law_refuses_is_refused_before_anything_is_asked(console: Console) -> None:
    lease = console.propose()
    console.done("approve", lease, "--yes")
    said = console.refused("approve", lease, code="already_cosigned", ends=1, typed="y\n")
    assert "Sign as" not in said.err


def test_passphrase_is_not_read_from_a_pipe(console: Console, tmp_path: Path) -> None:
    lease = console.propose()
    own = load_private_key(console.home / "keys" / "ada.key")
    store_private_key(tmp_path / "id", own, b"right")
    said = ("approve", lease, "--key", str(tmp_path / "id"))
    console.refused(*said, code="passphrase_needed", ends=2, typed="right\n")


def test_key_that_is_not_enrolled_is_not_opened(console: Console, tmp_path: Path) -> None:
    lease = console.propose()
    key = new_key(tmp_path / "id", b"right")
    console.refused("approve", lease, "--key", str(key), code="key_not_enrolled", ends=1, typed="right\n")


def test_unseen_approval_is_refused_where_the_policy_wants_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(tmp_path, monkeypatch)
    console.init(look=True)
    fleet = str(console.write_fleet())
    said = console.run("fleet", "propose", fleet, "--approve", "--yes")
    assert (said.code, "error: look_needed: " in said.err) == (1, True)
    console.done("fleet", "propose", fleet, "--yes")
    digest = next(iter(console.state().proposals))
    console.refused("approve", digest[:12], "--yes", code="look_needed", ends=1)
    said = console.refused("approve", digest[:12], code="look_needed", ends=1, typed="y\n")
    assert "--prepare" in said.err


def test_approval_after_its_window_is_refused(console: Console) -> None:
    lease = console.propose(None, "--valid-for", "1m")
    console.clock.tick(61)
    said = console.refused("approve", lease, "--yes", code="approval_expired", ends=1)
    assert "rule time" in said.err


def test_second_approval_is_refused(console: Console) -> None:
    lease = console.propose()
    console.done("approve", lease, "--yes")
    console.refused("approve", lease, "--yes", code="already_cosigned", ends=1)


def test_approval_after_a_denial_is_refused(console: Console) -> None:
    lease = console.propose()
    console.done("deny", lease, "--reason", "not today", "--yes")
    said = console.refused("approve", lease, "--yes", code="lease_denied", ends=1)
    assert "rule objection" in said.err


def test_approval_after_a_withdrawal_counts_again(console: Console) -> None:
    lease = console.propose()
    console.done("approve", lease, "--yes")
    console.done("withdraw", lease, "--yes")
    assert "no human approver's key" in console.run("check", lease).out
    console.done("approve", lease, "--yes")
    assert "no human approver's key" not in console.run("check", lease).out


@pytest.mark.parametrize("name", ["LEASE-20990101-000000", "abcdef", "0" * 12, "\x1b[2J"])
def test_unknown_id_is_a_usage_error(console: Console, name: str) -> None:
    said = console.refused("approve", name, code="unknown_id", ends=1)
    assert "\x1b" not in said.err


def test_short_beginning_of_a_digest_names_nothing(console: Console) -> None:
    lease = console.propose()
    found = console.state().find_lease(lease)
    assert found is not None
    console.refused("show", found.digest[:11], code="unknown_id", ends=1)
    assert found.digest in console.done("show", found.digest[:12])


def test_clock_behind_the_ledger_is_refused_and_can_be_accepted(console: Console) -> None:
    lease = console.propose()
    console.clock.tick(-60)
    console.refused("approve", lease, "--yes", code="clock_suspect", ends=5)
    console.done("approve", lease, "--yes", "--accept-clock")


HOSTILE = "gone\x1b[2J\x9b31m\u202etxt\u200b\u2066x\x07\r\nApproved: entry 99"


def test_hostile_words_of_a_proposer_never_reach_the_terminal(console: Console) -> None:
    lease = console.propose({"app.py": HOSTILE}, "--why", HOSTILE, "--what", HOSTILE)
    console.done("approve", lease, "--yes")
    for command in (["show", lease], ["inbox"], ["status"], ["ledger", "log"], ["check", lease], ["audit"]):
        said = console.run(*command)
        for line in (said.out + said.err).split("\n"):
            assert all(unicodedata.category(char) not in {"Cc", "Cf"} for char in line), (command, line)
    shown = console.done("show", lease).splitlines()
    assert not any(line.startswith("Approved") for line in shown)
    assert console.run("ledger", "log", "--json").out.isascii()


def test_json_of_a_lease_is_the_signed_statement(console: Console) -> None:
    lease = console.propose()
    said = console.run("show", lease, "--json")
    assert said.json["predicateType"] == "https://station.calyx/lease/v1"
    assert said.json["predicate"]["id"] == lease


def test_inbox_lists_what_waits_until_it_is_answered(console: Console) -> None:
    lease = console.propose()
    console.clock.tick(30)
    said = console.run("inbox", "--exit-code", "--json")
    assert said.code == 6
    assert [(row["kind"], row["lease_id"], row["command"]) for row in said.json] == [
        ("lease", lease, f"calyx approve {lease}")
    ]
    # The command stands on a line of its own and whole, so that it can be copied.
    assert f"  calyx approve {lease}" in console.done("inbox").splitlines()
    console.done("approve", lease, "--yes")
    assert console.run("inbox", "--exit-code").code == 0


def test_inbox_lists_no_lease_that_can_no_longer_be_approved(console: Console) -> None:
    console.propose(None, "--valid-for", "1m")
    console.clock.tick(61)
    assert console.run("inbox", "--exit-code").code == 0


def test_inbox_lists_a_proposal_that_needs_a_vote(console: Console) -> None:
    console.done("fleet", "propose", str(console.write_fleet(3)), "--yes")
    said = console.run("inbox", "--json").json
    assert [row["kind"] for row in said] == ["fleet"]
    console.done("approve", said[0]["digest"], "--yes")
    assert console.run("inbox", "--json").json == []
    fleet = console.state().fleet
    assert fleet is not None
    assert len(fleet.targets["web"].instances) == 3


def test_sign_is_approve_and_verify_is_check(console: Console) -> None:
    lease = console.propose()
    console.done("sign", lease, "--yes")
    said = console.run("verify", lease, "--json")
    assert said.code == 1
    assert [step["step"] for step in said.json["steps"]] == list(range(1, 10))
    assert [step["step"] for step in said.json["steps"] if not step["ok"]] == [5, 6, 9]


def test_inbox_of_nobody_is_refused_and_not_empty(console: Console) -> None:
    console.refused("inbox", "--as", "ben", code="unknown_principal", ends=1)


@pytest.mark.parametrize("lost", ["manifest", "file"])
def test_what_cannot_be_shown_is_not_approved_where_the_policy_asks_for_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    console = Console(tmp_path, monkeypatch)
    console.init(look=True)
    monkeypatch.setattr(signing, "person_present", lambda: True)
    console.done("fleet", "propose", str(console.write_fleet(2)), "--approve", typed="y\ny\n")
    lease = console.propose({"app.py": "print('two')\n", "VERSION": "nothing\n"})
    found = console.state().find_lease(lease)
    assert found is not None
    digest = found.lease.artifact.sha256 if lost == "manifest" else sha256(b"nothing\n").hexdigest()
    (console.home / "objects" / digest[:2] / digest[2:]).unlink()
    prepared = tmp_path / "for-ada"
    said = console.refused("approve", lease, "--prepare", str(prepared), code="not_shown", ends=5)
    assert "object_missing" in said.err
    assert not prepared.exists()
    console.refused("approve", lease, typed="y\n", code="not_shown", ends=5)
    assert "cannot be shown: object_missing" in console.done("show", lease)
