"""The notifier and its outbox, with a post that does what a test says and clocks that a test moves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
from governing import propose_policy
from station import Station, matrix, new_station

from executor.notify.addresses import Address, AddressBook
from executor.notify.notices import trial_notice
from executor.notify.outbox import MAX_PENDING, Outbox, read_outbox
from executor.notify.post import DELIVERED, Letter
from executor.notify.run import (
    FIRST_RETRY_S,
    FRESH_S,
    LAST_RETRY_S,
    MAX_AGE_S,
    MAX_TRIES,
    REST_S,
    Notifier,
    retry_s,
)
from policies.replay import Replay

SECRET = "json://user:hunter2@hooks.example/secret"
OTHER = "json://other.example/path"


@dataclass
class Sending:
    """One message under way, until the post says how it ended."""

    address: Address
    letter: Letter
    post: FakePost
    ended: bool = False

    def poll(self) -> str | None:
        return self.post.outcome(self.address.url)

    def end(self) -> None:
        self.ended = True


@dataclass
class FakePost:
    """Takes what is sent. `how`: address -> its outcome, None while it hangs."""

    how: dict[str, str | None] = field(default_factory=dict)
    sent: list[Sending] = field(default_factory=list)

    def __call__(self, address: Address, letter: Letter) -> Sending:
        self.sent.append(Sending(address, letter, self))
        return self.sent[-1]

    def outcome(self, url: str) -> str | None:
        return self.how.get(url, DELIVERED)

    def ids(self, url: str | None = None) -> list[str]:
        """The ids in the messages that an address got, in order."""
        return [one.letter.body.rsplit(" ", 1)[1] for one in self.sent if url in (None, one.address.url)]


@dataclass
class Desk:
    """A station, a notifier on it, and clocks."""

    root: Path
    station: Station
    post: FakePost = field(default_factory=FakePost)
    lines: list[str] = field(default_factory=list)
    ticks: float = 0.0
    notifiers: list[Notifier] = field(default_factory=list)

    @property
    def outbox(self) -> Path:
        return self.root / "outbox.db"

    def book(self, text: str) -> None:
        path = self.root / "notify.yaml"
        path.write_text(text)
        path.chmod(0o600)

    def start(self) -> Callable[[], bool]:
        """A new notifier process; each call is a round of it."""
        notifier = Notifier(
            self.outbox,
            AddressBook(self.root / "notify.yaml"),
            self.post,
            clock=self.station.clock,
            monotonic=lambda: self.ticks,
            random=lambda size: b"\x80" * size,
            log=self.lines.append,
        )
        self.notifiers.append(notifier)
        replay = Replay(self.station.store, self.station.objects, None, notifier.observe)
        return lambda: notifier.round(replay)

    def pass_time(self, seconds: int) -> None:
        self.station.clock.tick(seconds)
        self.ticks += seconds

    def stop(self) -> None:
        for notifier in self.notifiers:
            notifier.close()

    def counts(self) -> dict[str, int]:
        outbox = read_outbox(self.outbox)
        assert outbox is not None
        try:
            return outbox.counts()
        finally:
            outbox.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    station = new_station(tmp_path / "station", policy=matrix(notify={"LEASE_PROPOSED": ["oncall"]}))
    station.clock.tick(2 * FRESH_S)
    desk = Desk(tmp_path, station)
    desk.book(f"oncall: ['{SECRET}']\n")
    yield desk
    desk.stop()


def settle(round_: Callable[[], bool]) -> None:
    """Rounds until nothing is due."""
    for _ in range(50):
        if round_():
            return
    raise AssertionError("the notifier finds no rest")


def test_notice_is_delivered_once_and_then_never_again(desk: Desk) -> None:
    round_ = desk.start()
    settle(round_)
    desk.station.propose()
    for _ in range(5):
        settle(round_)
        desk.pass_time(60)
    settle(desk.start())
    assert [one.letter.title for one in desk.post.sent] == ["LEASE-20260105-090000 on web"]
    assert desk.counts() == {"pending": 0, "sent": 1, "given_up": 0}


def test_failure_is_tried_again_later_and_later_with_the_same_id(desk: Desk) -> None:
    desk.post.how[SECRET] = "refused"
    desk.station.propose()
    round_ = desk.start()
    times = []
    for _ in range(400):
        before = len(desk.post.sent)
        settle(round_)
        if len(desk.post.sent) > before:
            times.append(desk.station.clock.now)
        if len(times) == 6:
            desk.post.how.clear()
        desk.pass_time(1)
    assert len(times) == 7
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[0] <= FIRST_RETRY_S + 1
    assert len(set(desk.post.ids())) == 1
    assert desk.counts() == {"pending": 0, "sent": 1, "given_up": 0}


def test_given_up_after_so_many_tries_and_said(desk: Desk) -> None:
    desk.post.how[SECRET] = "timed_out"
    desk.station.propose()
    round_ = desk.start()
    for _ in range(3 * MAX_TRIES):
        settle(round_)
        desk.pass_time(LAST_RETRY_S)
    assert len(desk.post.sent) == MAX_TRIES
    assert desk.counts()["given_up"] == 1
    assert any(line.startswith("gave up LEASE_PROPOSED to oncall") and "timed_out" in line for line in desk.lines)
    outbox = read_outbox(desk.outbox)
    assert outbox is not None
    assert [(one.state, one.attempts, one.error) for one in outbox.failures()] == [("given_up", MAX_TRIES, "timed_out")]
    outbox.close()


def test_given_up_after_a_day_whatever_the_tries(desk: Desk) -> None:
    desk.station.propose()
    desk.post.how[SECRET] = "refused"
    round_ = desk.start()
    settle(round_)
    desk.pass_time(MAX_AGE_S + 1)
    desk.post.how.clear()
    settle(round_)
    assert desk.counts() == {"pending": 0, "sent": 0, "given_up": 1}


def test_channel_that_hangs_does_not_keep_another_waiting(desk: Desk) -> None:
    desk.book(f"oncall: ['{SECRET}']\nteam: ['{OTHER}']\n")
    desk.post.how[SECRET] = None
    glass = {"rule": "break_glass", "reason": "down"}
    for number in range(3):
        window = {"execute_by": desk.station.after(900), "approve_by": desk.station.after(900)}
        desk.station.propose(f"LEASE-20260105-09000{number}", **{**glass, **window})
    round_ = desk.start()
    for _ in range(10):
        assert not round_()
    assert len(desk.post.ids(OTHER)) == 3
    assert len(desk.post.ids(SECRET)) == 1
    desk.post.how[SECRET] = DELIVERED
    settle(round_)
    assert len(desk.post.ids(SECRET)) == 3


def test_channel_that_failed_rests_and_a_poisoned_message_does_not_block_it(desk: Desk) -> None:
    desk.post.how[SECRET] = "refused"
    desk.station.propose("LEASE-20260105-090000")
    desk.station.propose("LEASE-20260105-090001")
    round_ = desk.start()
    settle(round_)
    assert len(desk.post.sent) == 1
    desk.pass_time(REST_S)
    settle(round_)
    # The other one has its turn before the one that failed is tried again.
    assert len(set(desk.post.ids())) == 2


def test_address_that_took_it_does_not_get_it_again_because_another_did_not(desk: Desk) -> None:
    desk.book(f"oncall: ['{SECRET}', '{OTHER}']\n")
    desk.post.how[OTHER] = "refused"
    desk.station.propose()
    round_ = desk.start()
    settle(round_)
    desk.pass_time(60)
    desk.post.how.clear()
    settle(round_)
    assert (len(desk.post.ids(SECRET)), len(desk.post.ids(OTHER))) == (1, 2)
    assert len(set(desk.post.ids())) == 1
    assert desk.counts()["sent"] == 1


def test_notifier_killed_between_sending_and_writing_it_down_sends_the_same_id_again(desk: Desk) -> None:
    desk.station.propose()
    round_ = desk.start()
    assert not round_()
    assert len(desk.post.sent) == 1
    # Killed here: it was sent, and nobody wrote that down.
    settle(desk.start())
    assert len(desk.post.sent) == 2
    assert len(set(desk.post.ids())) == 1


def test_notifier_killed_before_it_read_on_loses_nothing(desk: Desk) -> None:
    settle(desk.start())
    for number in range(3):
        desk.station.propose(f"LEASE-20260105-09000{number}")
    settle(desk.start())
    assert len(set(desk.post.ids())) == 3


def test_outbox_that_is_deleted_begins_with_what_is_newer_than_a_day(desk: Desk) -> None:
    desk.station.propose("LEASE-20260105-090000")
    settle(desk.start())
    desk.station.clock.tick(FRESH_S + 1)
    desk.station.propose("LEASE-20260107-090001")
    settle(desk.start())
    for path in desk.root.glob("outbox.db*"):
        path.unlink()
    sent = desk.post.ids()
    settle(desk.start())
    assert desk.post.ids()[len(sent) :] == [sent[-1]]


def test_outbox_that_is_deleted_under_a_running_notifier_is_begun_anew(desk: Desk) -> None:
    round_ = desk.start()
    settle(round_)
    desk.station.propose("LEASE-20260105-090000")
    settle(round_)
    desk.outbox.unlink()
    desk.station.propose("LEASE-20260105-090001")
    settle(round_)
    first, *again = desk.post.ids()
    assert (len(again), again[0] == first) == (2, True)
    assert any("outbox is gone" in line for line in desk.lines)


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_damaged_outbox_is_begun_anew(desk: Desk, damage: bytes) -> None:
    desk.outbox.write_bytes(damage)
    desk.station.propose()
    settle(desk.start())
    assert desk.counts()["sent"] == 1


def test_outbox_of_another_ledger_is_begun_anew(desk: Desk) -> None:
    Outbox.open(desk.outbox, "ab" * 32).close()
    desk.station.propose()
    settle(desk.start())
    assert desk.counts()["sent"] == 1


def test_outbox_is_for_its_owner_alone(desk: Desk) -> None:
    settle(desk.start())
    assert desk.outbox.stat().st_mode & 0o777 == 0o600


def test_channel_without_an_address_gets_nothing_and_break_glass_reaches_every_channel(desk: Desk) -> None:
    desk.book(f"team: ['{OTHER}']\n")
    desk.station.propose("LEASE-20260105-090000")
    round_ = desk.start()
    settle(round_)
    assert desk.post.sent == []
    window = {"execute_by": desk.station.after(900), "approve_by": desk.station.after(900)}
    desk.station.propose("LEASE-20260105-090001", rule="break_glass", reason="down", **window)
    settle(round_)
    assert [one.letter.title for one in desk.post.sent] == ["BREAK-GLASS: LEASE-20260105-090001 on web"]


def test_address_that_was_taken_away_is_tried_and_given_up(desk: Desk) -> None:
    desk.post.how[SECRET] = "refused"
    desk.station.propose()
    round_ = desk.start()
    settle(round_)
    desk.book(f"team: ['{OTHER}']\n")
    desk.pass_time(60)
    settle(round_)
    assert any("no_address" in line for line in desk.lines)


def test_addresses_that_became_unreadable_leave_the_old_ones_in_use(desk: Desk) -> None:
    round_ = desk.start()
    settle(round_)
    desk.book("oncall: {wrong: true}\n")
    desk.station.propose()
    settle(round_)
    assert len(desk.post.ids(SECRET)) == 1
    assert sum("bad_addresses" in line for line in desk.lines) == 1


def test_clock_that_went_back_puts_off_nothing_for_years(desk: Desk) -> None:
    desk.post.how[SECRET] = "refused"
    desk.station.propose()
    round_ = desk.start()
    settle(round_)
    desk.station.clock.now -= 10 * 365 * 86_400
    desk.ticks += REST_S
    desk.post.how.clear()
    settle(round_)
    assert desk.counts()["sent"] == 1


def test_no_address_is_in_the_log_or_in_a_repr(desk: Desk) -> None:
    desk.post.how[SECRET] = "refused"
    desk.station.propose()
    round_ = desk.start()
    for _ in range(2 * MAX_TRIES):
        settle(round_)
        desk.pass_time(LAST_RETRY_S)
    assert desk.lines
    shown = "\n".join((*desk.lines, *(f"{one.address} {one.letter}" for one in desk.post.sent)))
    assert not any(part in shown for part in ("hunter2", "hooks.example", "json://"))
    assert b"hunter2" not in desk.outbox.read_bytes()


def test_wait_before_the_next_try_doubles_and_is_bounded() -> None:
    least = [retry_s(attempts, lambda size: b"\x00" * size) for attempts in range(1, 20)]
    most = [retry_s(attempts, lambda size: b"\xff" * size) for attempts in range(1, 20)]
    assert least == sorted(least)
    assert all(a < b <= 2 * a for a, b in zip(least, most, strict=True))
    assert (least[0] >= FIRST_RETRY_S // 2, most[-1]) == (True, LAST_RETRY_S)


def test_outbox_that_cannot_be_written_is_said_once_and_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_ = desk.start()
    settle(round_)
    desk.station.propose()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "add", full)
        for _ in range(3):
            round_()
    assert sum("disk is full" in line for line in desk.lines) == 1
    settle(round_)
    assert desk.counts()["sent"] == 1


def test_more_than_can_wait_gives_up_the_oldest(tmp_path: Path, desk: Desk) -> None:
    outbox = Outbox.open(tmp_path / "other.db", "ab" * 32)
    made = [(trial_notice("x", "ab" * 32, n.to_bytes(8, "big"), 0), "x") for n in range(MAX_PENDING + 3)]
    outbox.add(made, 7, 100)
    assert outbox.counts() == {"pending": MAX_PENDING, "sent": 0, "given_up": 3}
    assert {one.id for one in outbox.failures()} == {notice.id_for("x") for notice, _ in made[:3]}
    outbox.close()


def test_grave_notice_does_not_stand_in_line_behind_a_flood(desk: Desk) -> None:
    proposal = propose_policy(desk.station, notify={"all": ["oncall"]})
    desk.station.vote("ada", ("policy", proposal.digest), "governor")
    settle(desk.start())
    told = len(desk.post.sent)
    for number in range(20):
        desk.station.propose(f"LEASE-20260105-0900{number:02}")
    lease = desk.station.propose("LEASE-20260105-100000")
    desk.station.begin(lease)
    desk.station.event("cp20", lease, "HALTED", cause="breach", gate="tes", evidence=None, text="50")
    settle(desk.start())
    titles = [one.letter.title for one in desk.post.sent[told:]]
    assert titles[0] == "LEASE-20260105-100000 on web: halted"
    assert len(titles) == 26


def test_flood_drops_no_grave_notice(tmp_path: Path, desk: Desk) -> None:
    outbox = Outbox.open(tmp_path / "other.db", "ab" * 32)
    grave = replace(trial_notice("x", "ab" * 32, b"grave", 0), event="ROLLBACK_FAILED")
    flood = [trial_notice("x", "ab" * 32, n.to_bytes(8, "big"), 0) for n in range(MAX_PENDING + 3)]
    outbox.add([(notice, "x") for notice in (grave, *flood)], 7, 100)
    turn = outbox.next_for("x", 100, 10_000)
    assert turn is not None
    assert turn.id == grave.id_for("x")
    assert outbox.counts()["given_up"] == 4
    outbox.close()
