"""Attacks with the clock: one second before and after each boundary, clocks that go back, and clocks years ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Forced, Lease, appended, approval, claim_of, judged, repelled
from governing import propose_policy, propose_trust
from refusal import refused
from station import Station, matrix, new_station

from keys.values import format_time, parse_time
from ledger.envelope import Envelope
from policies.submitter import Draft

DAY = 86_400
YEARS = 5 * 365 * DAY


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def at(station: Station, time: str, offset: int) -> None:
    """Set the clock so many seconds beside a time."""
    station.clock.now = parse_time(time) + offset


def agreed(station: Station, name: str = "LEASE-20260105-090000", **terms: Any) -> Lease:
    lease = station.propose(name, **terms)
    station.approve(lease)
    if station.state.term is None:
        station.take_term()
    return lease


@pytest.mark.parametrize(("offset", "code"), [(-1, "too_early"), (0, None), (1, None)])
def test_claim_beside_not_before(station: Station, offset: int, code: str | None) -> None:
    opens = station.after(600)
    lease = agreed(station, not_before=opens)
    at(station, opens, offset)
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 3} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "lease_expired")])
def test_claim_beside_execute_by(station: Station, offset: int, code: str | None) -> None:
    closes = station.after(600)
    lease = agreed(station, approve_by=closes, execute_by=closes)
    at(station, closes, offset)
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 3} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "trust_expired")])
def test_claim_beside_the_expiry_of_the_trust_root(station: Station, offset: int, code: str | None) -> None:
    expires = station.after(600)
    proposal = propose_trust(station, station.trust(expires=expires))
    station.vote("ada", ("trust", proposal.digest), "governor")
    lease = agreed(station)
    at(station, expires, offset)
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 3} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "approval_expired")])
@pytest.mark.parametrize("subject", ["lease", "policy"])
def test_approval_beside_approve_by_at_the_record(
    station: Station, subject: str, offset: int, code: str | None
) -> None:
    """Signed in time, and brought one second late: it does not count."""
    closes = station.after(3600)
    if subject == "lease":
        vote = station.sign("ada", approval(station.propose(approve_by=closes)))
    else:
        vote = station.sign("ada", approval(("policy", propose_policy(station).digest), "governor"))
    at(station, closes, offset)
    judged(station, vote, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "approval_expired")])
@pytest.mark.parametrize("subject", ["lease", "policy"])
def test_approval_beside_approve_by_at_its_signing(
    station: Station, subject: str, offset: int, code: str | None
) -> None:
    closes = station.after(3600)
    if subject == "lease":
        draft = approval(station.propose(approve_by=closes))
    else:
        draft = approval(("policy", propose_policy(station).digest), "governor")
    at(station, closes, -1)
    vote = station.sign("ada", draft, made_at=format_time(parse_time(closes) + offset))
    judged(station, vote, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "lease_expired")])
def test_lease_beside_its_own_execute_by(station: Station, offset: int, code: str | None) -> None:
    station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "", "why": ""})
    closes = station.after(60)
    fields = {**station.lease_fields("LEASE-20260105-090000", "INT-20260105-001")}
    fields |= {"approve_by": closes, "execute_by": closes}
    at(station, closes, offset)
    judged(station, station.sign("cbo", Draft("lease", fields)), code, **({"rule": "lease"} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "approval_expired")])
def test_proposal_beside_its_own_approve_by(station: Station, offset: int, code: str | None) -> None:
    policy = station.state.policy
    assert policy is not None
    closes = station.after(60)
    fields = {"base": station.state.policy_digest, "reason": "", "approve_by": closes, "policy": policy.to_json()}
    at(station, closes, offset)
    judged(station, station.sign("ada", Draft("policy", fields)), code, **({"rule": "time"} if code else {}))


def event(station: Station, lease: Lease, type_: str, **detail: Any) -> Envelope:
    term = station.state.term
    assert term is not None
    return station.sign("cp20", Draft("event", {"epoch": term.epoch, "detail": {"type": type_, **detail}}, lease))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "lease_expired")])
def test_start_beside_execute_by(station: Station, offset: int, code: str | None) -> None:
    closes = station.after(600)
    lease = agreed(station, approve_by=closes, execute_by=closes)
    station.append(claim_of(station, lease))
    station.baseline(lease)
    at(station, closes, offset)
    judged(station, event(station, lease, "STARTED"), code, **({"rule": "forward"} if code else {}))


def until_first_intent(station: Station, lease: Lease) -> Envelope:
    return event(station, lease, "TIER_INTENT", tier=5)


def until_bake(station: Station, lease: Lease) -> Envelope:
    deployment = station.state.deployments[lease[1]]
    station.event("cp20", lease, "TIER_INTENT", tier=5)
    for name in deployment.cohorts[5]:
        station.event("cp20", lease, "INSTANCE_APPLIED", tier=5, instance=name, tree=deployment.after[name])
    station.event("cp20", lease, "TIER_APPLIED", tier=5)
    return event(station, lease, "BAKE_STARTED", tier=5)


def until_promotion(station: Station, lease: Lease) -> Envelope:
    station.append(until_bake(station, lease))
    station.bake(lease, 5)
    return event(station, lease, "CANARY_PROMOTED", tier=5, to=25)


def until_resumption(station: Station, lease: Lease) -> Envelope:
    station.append(until_bake(station, lease))
    station.event("cp20", lease, "PAUSED", cause="test", command=None, text="")
    return event(station, lease, "RESUMED", command=None)


def until_completion(station: Station, lease: Lease) -> Envelope:
    for tier, following in ((5, 25), (25, 100), (100, None)):
        station.deploy_tier(lease, tier)
        station.bake(lease, tier)
        if following is not None:
            station.event("cp20", lease, "CANARY_PROMOTED", tier=tier, to=following)
    return event(station, lease, "COMPLETED")


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "complete_by_passed")])
@pytest.mark.parametrize("until", [until_first_intent, until_bake, until_promotion, until_resumption, until_completion])
def test_step_forward_beside_complete_by(station: Station, until: Any, offset: int, code: str | None) -> None:
    closes = station.after(7200)
    lease = agreed(station, complete_by=closes)
    station.append(claim_of(station, lease))
    station.baseline(lease)
    station.event("cp20", lease, "STARTED")
    until(station, lease)
    at(station, closes, offset)
    # Machines say when they say it, so it is said now; what was prepared before is only thrown away.
    detail = {
        until_first_intent: {"type": "TIER_INTENT", "tier": 5},
        until_bake: {"type": "BAKE_STARTED", "tier": 5},
        until_promotion: {"type": "CANARY_PROMOTED", "tier": 5, "to": 25},
        until_resumption: {"type": "RESUMED", "command": None},
        until_completion: {"type": "COMPLETED"},
    }[until]
    envelope = event(station, lease, detail.pop("type"), **detail)  # type: ignore[arg-type, attr-defined]  # a union
    judged(station, envelope, code, **({"rule": "forward"} if code else {}))
    if code is not None:
        # The way back stays open.
        appended(station, event(station, lease, "HALTED", cause="late", evidence=None, gate=None, text=""))


def order(station: Station, lease: Lease, verb: str, **changes: Any) -> Envelope:
    fields = {"expires_at": station.after(600), "state": None, "tier": None, "skip_bake": False, "reason": ""}
    return station.sign("ada", Draft("command", {"verb": verb, **fields, **changes}, lease))


@pytest.mark.parametrize("judged_by", ["record", "signing"])
@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "command_expired")])
def test_order_beside_expires_at(station: Station, judged_by: str, offset: int, code: str | None) -> None:
    lease = agreed(station)
    station.append(claim_of(station, lease))
    expires = station.after(60)
    if judged_by == "record":
        envelope = order(station, lease, "pause", expires_at=expires)
        at(station, expires, offset)
    else:
        at(station, expires, -1)
        draft = Draft(
            "command",
            {"verb": "pause", "expires_at": expires, "state": None, "tier": None, "skip_bake": False, "reason": ""},
            lease,
        )
        envelope = station.sign("ada", draft, made_at=format_time(parse_time(expires) + offset))
    judged(station, envelope, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "retention_over")])
def test_rollback_beside_the_end_of_retention(tmp_path: Path, offset: int, code: str | None) -> None:
    station = new_station(tmp_path, policy=matrix(retention_s=3600))
    lease = station.propose()
    station.begin(lease)
    done = station.complete(lease)
    station.clock.now = done.time + 3600 + offset
    judged(station, order(station, lease, "rollback"), code, **({"rule": "rollback"} if code else {}))


@pytest.mark.parametrize(("ahead", "code"), [(119, None), (120, None), (121, "clock_suspect")])
@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_made_at_ahead_of_the_record(station: Station, who: str, ahead: int, code: str | None) -> None:
    envelope = station.sign(who, QUESTION, made_at=format_time(station.clock.now + ahead))
    judged(station, envelope, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("age", "code"), [(119, None), (120, None), (121, "stale_statement")])
def test_machines_made_at_behind_the_record(station: Station, age: int, code: str | None) -> None:
    envelope = station.sign("cp14", QUESTION)
    station.clock.tick(age)
    judged(station, envelope, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("behind", "code"), [(0, None), (1, "clock_suspect")])
def test_machines_made_at_behind_its_head(station: Station, behind: int, code: str | None) -> None:
    station.clock.tick(60)
    station.say("ada", "message", QUESTION.fields)
    envelope = station.sign("cp14", QUESTION, made_at=format_time(station.clock.now - behind))
    judged(station, envelope, code, **({"rule": "time"} if code else {}))


@pytest.mark.parametrize(("lag", "code"), [(1_024, None), (1_025, "head_too_old")])
def test_machines_head_behind_the_ledger(station: Station, lag: int, code: str | None) -> None:
    envelope = station.sign("cp14", QUESTION)
    drafts = [Draft("message", {**QUESTION.fields, "text": str(n)}) for n in range(lag)]
    station.registrar.submit_all(station.signer("cbo"), drafts)
    judged(station, envelope, code, **({"rule": "heads"} if code else {}))


def emergency(station: Station, valid_s: int, **changes: Any) -> Lease:
    window = {"execute_by": station.after(valid_s), "approve_by": station.after(valid_s)}
    name = changes.pop("name", "LEASE-20260105-090000")
    lease = station.propose(name, rule="break_glass", reason="the site is down", **window, **changes)
    for voter in ("ada", "ben"):
        station.vote(voter, lease, "approver")
    if station.state.term is None:
        station.take_term()
    return lease


@pytest.mark.parametrize(("valid_s", "code"), [(899, None), (900, None), (901, "break_glass_too_long")])
def test_break_glass_beside_its_validity(station: Station, valid_s: int, code: str | None) -> None:
    lease = emergency(station, valid_s)
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 2} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "lease_expired")])
def test_break_glass_beside_its_last_second(station: Station, offset: int, code: str | None) -> None:
    lease, closes = emergency(station, 900), station.after(900)
    at(station, closes, offset)
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 3} if code else {}))


@pytest.mark.parametrize(("offset", "code"), [(-1, None), (0, None), (1, "review_overdue")])
def test_claim_beside_the_time_an_owed_review_is_due(tmp_path: Path, offset: int, code: str | None) -> None:
    clause = {"enabled": True, "max_validity_s": 900, "review_within_s": 3600, "user_verification": False}
    station = new_station(tmp_path, policy=matrix(break_glass=clause))
    glass = emergency(station, 900)
    claimed = station.append(claim_of(station, glass))
    station.event("cp20", glass, "ABORTED", cause="test", text="")
    lease = agreed(station, "LEASE-20260105-090001")
    station.clock.now = claimed.time + 3600 + offset
    judged(station, claim_of(station, lease), code, **({"rule": "two_key", "step": 8} if code else {}))


@pytest.mark.parametrize(("n", "offset", "code"), [(1, -2, "early_sample"), (1, -1, None), (2, -2, "early_sample")])
def test_sample_beside_its_time(station: Station, n: int, offset: int, code: str | None) -> None:
    """Samples taken early would end a bake early."""
    lease = station.propose()
    station.begin(lease)
    station.append(until_bake(station, lease))
    station.clock.tick(15 * n + offset)
    values = [
        {"gate": gate, "value": "90", "requests": None, "rest": None, "rest_requests": None}
        for gate in ("error_rate", "tes")
    ]
    detail = {"type": "SAMPLE", "tier": 5, "n": n, "values": values, "trees": [], "raw": None}
    for made_at in (station.clock.now, station.clock.now + 120):
        # Nor does a monitor that dates it ahead shorten the bake.
        draft = Draft("event", {"epoch": None, "detail": detail}, lease)
        envelope = station.sign("cp19", draft, made_at=format_time(made_at))
        if code is not None:
            repelled(station, envelope, code, rule="health")
        elif made_at == station.clock.now:
            appended(station, envelope)


@pytest.mark.parametrize(("behind", "code"), [(4, None), (5, None), (6, "clock_suspect")])
def test_clock_going_back(station: Station, behind: int, code: str | None) -> None:
    """The ledger's time never falls: a little behind takes the last time, more is refused."""
    last = station.say("ada", "message", QUESTION.fields).time
    station.clock.tick(-behind)
    size = station.state.size
    if code is None:
        assert station.say("ada", "message", QUESTION.fields).time == last
        return
    with refused(code):
        station.say("ada", "message", QUESTION.fields)
    assert station.state.size == size


def test_clock_going_back_in_the_file(station: Station) -> None:
    """A host that dates a record before the last one, to bring a late approval into its window."""
    closes = station.after(600)
    lease = station.propose(approve_by=closes)
    at(station, closes, 1)
    station.say("cbo", "message", QUESTION.fields)
    late = station.sign("ada", approval(lease), made_at=closes)
    with Forced.after(station, late, time=parse_time(closes)) as forced:
        report = forced.audit()
        assert report["findings"][0]["seq"] == forced.seq
        assert not report["ok"]
        forced.stops_every_reader("broken_chain")
    repelled(station, late, "approval_expired", rule="time")


@pytest.mark.parametrize(
    ("ahead", "code"), [(30 * DAY, None), (30 * DAY + 1, "clock_suspect"), (YEARS, "clock_suspect")]
)
def test_clock_years_ahead(station: Station, ahead: int, code: str | None) -> None:
    size = station.state.size
    station.clock.tick(ahead)
    if code is None:
        appended(station, station.sign("ada", QUESTION))
        return
    for who in ("ada", "cp14"):
        with refused(code):
            station.say(who, "message", QUESTION.fields)
    assert station.state.size == size


def test_clock_years_ahead_of_the_signer_alone(station: Station) -> None:
    lease = station.propose()
    for who, draft in (("ada", approval(lease)), ("cp14", QUESTION)):
        envelope = station.sign(who, draft, made_at=format_time(station.clock.now + YEARS))
        repelled(station, envelope, "clock_suspect", rule="time")


def test_clock_years_ahead_that_was_accepted_opens_no_window(station: Station) -> None:
    """`--accept-clock` lets entries in; every window is over by then, and nothing is claimed."""
    lease = agreed(station)
    station.clock.tick(YEARS)
    claim = claim_of(station, lease)
    with Forced.copy(station) as copy:
        registrar = copy.registrar(accept_clock=True)
        registrar.sync()
        with refused("lease_expired", rule="two_key", step=3):
            registrar.append([claim])
        registrar.append([station.sign("ada", QUESTION)])
    with Forced.after(station, claim) as forced:
        assert "(lease_expired, rule two_key, step 3)" in forced.audit()["findings"][0]["message"]
        forced.stops_every_reader("unlawful_entry", cause="lease_expired")


def test_host_that_dates_an_old_approval_ahead_gains_nothing(station: Station) -> None:
    """Whoever holds the log key sets the record's time: later than the truth, and the windows are judged by it."""
    closes = station.after(600)
    lease = station.propose(approve_by=closes)
    vote = station.sign("ada", approval(lease))
    with Forced.after(station, vote, time=parse_time(closes) + 1) as forced:
        assert "(approval_expired, rule time" in forced.audit()["findings"][0]["message"]
        forced.stops_every_reader("unlawful_entry", cause="approval_expired")
