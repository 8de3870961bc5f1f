"""What entries and the time tell people: each notice once, with a stable id, and nothing in it that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from documents import CHECKOUT, read_part
from governing import propose_policy, propose_trust, withdraw
from hypothesis import given
from hypothesis import strategies as st
from station import Station, matrix, new_station

from executor.notify.notices import DAY, MAX_BODY, MAX_TITLE, Notice, Notices, due_notices, kind_of, trial_notice
from executor.notify.wording import inert
from keys.values import parse_time
from ledger.chain import Entry
from policies.fold.state import State
from policies.notices import ALL, LOUD, NOTICES
from policies.replay import Replay

Lease = tuple[str, str]
DOCUMENT = CHECKOUT / "docs" / "NOTIFICATIONS.md"
HOSTILE = "\x1b[2J<!here> @everyone [click](https://evil.example/x) `rm` \u202egpj.exe www.evil.example <b>hi</b> &amp;"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path, policy=matrix(notify={"all": ["team"], "HALTED": ["oncall"]}))


def notices(station: Station, start: int = 0) -> list[Notice]:
    """What a notifier that begins at an entry makes of the ledger."""
    fold, found = Notices(), []

    def take(entry: Entry, state: State) -> None:
        if entry.seq < start:
            fold.skip(state)
        else:
            found.extend(fold.take(entry, state))

    Replay(station.store, station.objects, None, take).sync()
    return found


def events(station: Station, start: int = 0) -> list[str]:
    return [notice.event for notice in notices(station, start)]


def emergency(station: Station, **changes: Any) -> Lease:
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    return station.propose(**{"rule": "break_glass", "reason": "the site is down", **window, **changes})


def test_whole_life_of_a_lease(station: Station) -> None:
    start = station.state.size
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    station.command("ben", lease, "rollback")
    deployment = station.state.deployments[lease[1]]
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="command", command=deployment.commands[-1].digest)
    for name in sorted(deployment.intended):
        tree = deployment.before[name]
        station.event("cp20", lease, "INSTANCE_RESTORED", instance=name, tree=tree, rebuilt=False, warning=None)
    station.event("cp20", lease, "ROLLED_BACK")
    assert events(station, start) == [
        *("LEASE_PROPOSED", "COSIGNED", "COSIGNED", "CLAIMED", "STARTED", "CANARY_PROMOTED", "CANARY_PROMOTED"),
        *("COMPLETED", "ROLLBACK_STARTED", "ROLLED_BACK"),
    ]
    assert {notice.lease for notice in notices(station, start)} == {lease[0]}


def test_hook_that_failed_on_the_way_back_is_told_with_its_end(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="breach", gate="tes", evidence=None, text="50")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    deployment = station.state.deployments[lease[1]]
    said = "the hook balance-in failed: no answer\nyou are paged"
    for name in sorted(deployment.intended):
        event = {"instance": name, "tree": deployment.before[name], "rebuilt": False, "warning": said}
        station.event("cp20", lease, "INSTANCE_RESTORED", **event)
    station.event("cp20", lease, "ROLLED_BACK")
    body = {notice.event: notice for notice in notices(station)}["ROLLED_BACK"].body
    assert "WARNING: instance web-" in body
    assert "balance-in failed" in body
    assert "\nyou are paged" not in body


def test_stops_are_told_with_their_cause(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    order = station.command("ada", lease, "pause")
    station.event("cp20", lease, "PAUSED", command=order.digest, cause="command", text="look at it")
    order = station.command("ada", lease, "resume")
    station.event("cp20", lease, "RESUMED", command=order.digest)
    station.deploy_tier(lease, 5)
    station.event("cp20", lease, "HALTED", cause="breach", gate="tes", evidence=None, text="50")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    touched = sorted(station.state.deployments[lease[1]].intended)
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=touched, text="no answer")
    found = {notice.event: notice for notice in notices(station)}
    assert "look at it" in found["PAUSED"].body
    assert "Cause breach, gate tes" in found["HALTED"].body
    assert touched[0] in found["ROLLBACK_FAILED"].body
    assert found["HALTED"].channels == ("oncall", "team")
    assert (kind_of("HALTED"), kind_of("COMPLETED"), kind_of("STARTED")) == ("failure", "success", "info")


def test_no_is_told(station: Station) -> None:
    start = station.state.size
    lease = station.propose()
    station.vote("ada", lease, "approver")
    withdraw(station, "ada", lease)
    withdraw(station, "ben", lease, "deny")
    assert events(station, start) == ["LEASE_PROPOSED", "COSIGNED", "WITHDRAWN", "DENIED"]


def test_claim_that_could_not_be_made_is_told(station: Station) -> None:
    lease = station.propose()
    station.approve(lease)
    station.take_term()
    start = station.state.size
    station.event("cp20", lease, "PREFLIGHT_FAILED", code="no_space", instance="web-01", text="full")
    notice = notices(station, start)[0]
    assert (notice.event, "no_space on web-01" in notice.body) == ("PREFLIGHT_FAILED", True)


def test_governance_is_told_to_those_before_and_after_it(station: Station) -> None:
    start = station.state.size
    proposal = propose_policy(station, notify={"POLICY_IN_FORCE": ["others"]})
    station.vote("ada", ("policy", proposal.digest), "governor")
    found = notices(station, start)
    assert [notice.event for notice in found] == ["POLICY_PROPOSED", "COSIGNED", "POLICY_IN_FORCE"]
    # A policy that silences people is the last thing that they hear of.
    assert found[-1].channels == ("team", "others")
    station.propose()
    assert notices(station, start)[-1].channels == ()


@pytest.mark.parametrize("from_start", [True, False])
def test_wait_for_a_person_is_told_once_for_each_tier(station: Station, from_start: bool) -> None:
    lease = station.propose(promotion="manual", start="command")
    station.approve(lease)
    station.take_term()
    start = station.state.size
    station.claim(lease)
    station.command("ada", lease, "start")
    station.baseline(lease)
    station.event("cp20", lease, "STARTED")
    station.deploy_tier(lease, 5)
    station.bake(lease, 5)
    waited = station.state.size
    station.sample(lease, 5, 3)
    station.verdict(lease, 5, 3)
    if from_start:
        waits = [event for event in events(station, start) if event.startswith("AWAITS")]
        assert waits == ["AWAITS_START", "AWAITS_PROMOTION"]
    else:
        # Told before: whoever goes on from here does not tell it again.
        assert events(station, waited) == []


def test_break_glass_is_loud_and_everything_else_is_the_policy_s(station: Station) -> None:
    start = station.state.size
    lease = emergency(station)
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    station.take_term()
    station.claim(lease)
    station.say("cp18", "review", {"role": "validator", "verdict": "fail", "summary": "no", "findings": None}, lease)
    found = notices(station, start)
    assert [notice.event for notice in found] == [
        *("BREAK_GLASS_PROPOSED", "COSIGNED", "COSIGNED", "BREAK_GLASS_CLAIMED", "BREAK_GLASS_REVIEWED")
    ]
    assert [notice.loud for notice in found] == [notice.event in LOUD for notice in found]
    assert all(notice.title.startswith("BREAK-GLASS: ") for notice in found if notice.loud)
    assert "the site is down" in found[0].body
    assert "A review is owed now" in found[3].body
    assert "fail" in found[4].title


def test_overdue_review_is_told_anew_each_day_with_ids_of_their_own(station: Station) -> None:
    lease = emergency(station)
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    station.take_term()
    station.claim(lease)
    due = station.state.owed_reviews[lease[1]]
    assert due_notices(station.state, due) == []
    first = due_notices(station.state, due + 1)
    assert [notice.event for notice in first] == ["REVIEW_OVERDUE"]
    assert due_notices(station.state, due + DAY - 1) == first
    assert due_notices(station.state, due + DAY)[0].id_for("x") != first[0].id_for("x")


def test_end_of_the_trust_root_is_told_at_each_mark(station: Station) -> None:
    assert station.state.trust is not None
    end = parse_time(station.state.trust.expires)
    assert due_notices(station.state, end - 30 * DAY - 1) == []
    ids = []
    for now in (end - 30 * DAY, end - 8 * DAY, end - 7 * DAY, end - DAY, end, end + 400 * DAY):
        [notice] = due_notices(station.state, now)
        assert notice.event == "TRUST_EXPIRING"
        ids.append(notice.id_for("team"))
    assert ids[0] == ids[1]
    assert ids[4] == ids[5]
    assert len(set(ids)) == 4


def test_renewed_trust_root_is_told_of_anew(station: Station) -> None:
    proposal = propose_trust(station, station.trust(expires="2031-01-01T00:00:00Z"))
    before = due_notices(station.state, parse_time("2030-01-01T00:00:00Z"))
    station.vote("ada", ("trust", proposal.digest), "governor")
    assert due_notices(station.state, parse_time("2030-01-01T00:00:00Z")) == []
    after = due_notices(station.state, parse_time("2031-01-01T00:00:00Z"))
    assert before[0].source != after[0].source


def test_ids_are_the_same_whoever_folds_and_differ_by_channel_and_event(station: Station) -> None:
    proposal = propose_policy(station)
    station.vote("ada", ("policy", proposal.digest), "governor")
    ids = [notice.id_for("team") for notice in notices(station)]
    assert ids == [notice.id_for("team") for notice in notices(station)]
    assert len(set(ids)) == len(ids)
    assert set(ids).isdisjoint(notice.id_for("oncall") for notice in notices(station))
    assert all(len(one) == 64 for one in ids)


def test_hostile_text_of_a_lease_is_inert(station: Station) -> None:
    fields = {"id": "INT-20260105-001", "target": "web", "what": HOSTILE * 40, "why": HOSTILE * 40}
    station.say("cbo", "intent", fields)
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    terms = {**station.lease_fields("LEASE-20260105-090000", "INT-20260105-001"), **window}
    station.say("cbo", "lease", {**terms, "rule": "break_glass", "reason": HOSTILE * 40})
    notice = notices(station)[-1]
    assert notice.event == "BREAK_GLASS_PROPOSED"
    assert len(notice.title) <= MAX_TITLE
    assert len(notice.body) <= MAX_BODY
    text = notice.title + notice.body.replace("\n", " ")
    assert text.isprintable()
    for live in ("<!here>", "@everyone", "](", "https://", "www.evil", "`", "<b>", "&", "\u202e", "\x1b"):
        assert live not in text
    assert notice.body.splitlines()[-1].startswith("2026-01-05T09:00:00Z, ledger station.example/calyx")


@given(st.text(max_size=300), st.integers(1, 400))
def test_inert_text_has_nothing_that_works_and_stays_as_it_is(text: str, limit: int) -> None:
    soft = inert(text, limit)
    assert inert(soft, len(soft)) == soft
    assert soft.isprintable()
    assert not set(soft) & set('<>[]{}`"&*~|\\@')
    assert "://" not in soft


def test_trial_has_an_id_of_its_own_each_time() -> None:
    one, two = (trial_notice("team", "ab" * 32, bytes([n]) * 16, 0) for n in (1, 2))
    assert one.id_for("team") != two.id_for("team")
    assert one.event not in NOTICES


def test_every_notice_that_is_made_is_in_the_closed_list(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    propose_policy(station)
    assert set(events(station)) <= set(NOTICES)
    assert ALL not in NOTICES


def table() -> str:
    rows = ["| notice | tells | goes to |", "|---|---|---|"]
    where = {True: "every channel", False: "as the policy says"}
    rows += [f"| `{name}` | {text} | {where[name in LOUD]} |" for name, text in NOTICES.items()]
    return "\n".join(rows)


def test_the_document_lists_each_notice() -> None:
    assert read_part(DOCUMENT, "notices") == table()
