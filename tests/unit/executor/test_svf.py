"""The station's feed as a fold: which entry gives which line, and what a reader of it must never be told wrongly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
from documents import CHECKOUT, read_part, write_parts
from governing import propose_policy, withdraw
from remoting import Remote
from station import Station, new_station

from executor.svf.lines import EVENT_TYPES, Feed, Line
from executor.views.lease_view import view_lease
from policies.replay import Replay
from policies.submitter import Draft

SVF: Final = CHECKOUT / "docs" / "SVF.md"
FIELDS: Final = {"timestamp", "agent", "action", "target", "message_preview", "outcome", "metadata"}
LISTED: Final = {
    "lease_event.COSIGNED",
    "lease_event.VERIFIED_2KEY",
    "deploy_event.STARTED",
    "deploy_event.CANARY_PROMOTED",
    "deploy_event.PAUSED",
    "deploy_event.HALTED",
    "deploy_event.ROLLED_BACK",
    "deploy_event.COMPLETED",
    "rollback_event.COMPLETE",
}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def feed(station: Station) -> list[Line]:
    """Every line of a station's ledger, read from its start."""
    feed = Feed()
    Replay(station.store, station.objects, None, feed).sync()
    return feed.take()


def told(station: Station) -> list[Any]:
    return [json.loads(line.data) for line in feed(station)]


def types(station: Station) -> list[str]:
    return [row["metadata"]["event_type"] for row in told(station)]


def halt(station: Station, lease: tuple[str, str]) -> None:
    station.deploy_tier(lease, 5)
    halt_now(station, lease)


def halt_now(station: Station, lease: tuple[str, str]) -> None:
    station.sample(lease, 5, 1, error_rate="50")
    verdict = station.verdict(lease, 5, 1, "breach")
    station.event("cp20", lease, "HALTED", cause="breach", gate="error_rate", evidence=verdict.digest, text="50 > 10")


def restore(station: Station, lease: tuple[str, str]) -> None:
    deployment = station.state.deployments[lease[1]]
    for name in sorted(deployment.intended):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")


def test_rollout_is_told_from_proposal_to_completion(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    assert types(station) == [
        "lease_event.PROPOSED",
        "lease_event.COSIGNED",
        "lease_event.REVIEWED",
        "lease_event.COSIGNED",
        "lease_event.VERIFIED_2KEY",
        "deploy_event.STARTED",
        "deploy_event.CANARY_PROMOTED",
        "deploy_event.CANARY_PROMOTED",
        "deploy_event.COMPLETED",
    ]


def test_every_line_has_exactly_the_fields_and_names_its_entry(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    halt(station, lease)
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    restore(station, lease)
    history = station.state.history
    for line, row in zip(feed(station), told(station), strict=True):
        assert set(row) == FIELDS
        about = row["metadata"]
        assert (about["lease_id"], about["intent_id"], about["deployment"]) == (
            lease[0],
            "INT-20260105-090000",
            lease[1],
        )
        assert about["event_type"] in EVENT_TYPES
        assert about["leaf"] == history.leaf(line.seq)
        assert history.find(about["digest"]) == about["seq"] == line.seq
        assert (row["target"], row["action"]) == (lease[0], "deployment")
        assert row["timestamp"].startswith(line.day)
        assert None not in about.values()


def test_names_that_the_station_reads_are_kept() -> None:
    assert set(EVENT_TYPES) >= LISTED


def test_cosignature_names_its_signer_role_and_key(station: Station) -> None:
    station.approve(station.propose())
    rows = [row for row in told(station) if row["metadata"]["event_type"] == "lease_event.COSIGNED"]
    assert [(row["agent"], row["metadata"]["role"], row["outcome"]) for row in rows] == [
        ("ada", "approver", "success"),
        ("cp14", "sentinel", "success"),
    ]
    assert [row["metadata"]["keyid"] for row in rows] == [station.signer(name).keyid for name in ("ada", "cp14")]


def test_claim_names_the_two_that_counted(station: Station) -> None:
    lease = station.propose()
    station.approve(lease, human="ben")
    station.vote("ada", lease, "approver")
    station.take_term()
    station.claim(lease)
    (row,) = [row for row in told(station) if row["metadata"]["event_type"] == "lease_event.VERIFIED_2KEY"]
    assert row["agent"] == "cp20"
    assert row["metadata"]["cosigners"] == ["ben", "cp14"]
    assert row["metadata"]["rule"] == "two_key"
    assert row["message_preview"] == "two keys: ben (approver) and cp14 (sentinel)"


def test_break_glass_is_not_told_as_two_keys(station: Station) -> None:
    lease = station.propose(
        rule="break_glass", reason="the shop is down", execute_by=station.after(600), approve_by=station.after(600)
    )
    for person in ("ada", "ben"):
        station.vote(person, lease, "approver")
    station.take_term()
    station.claim(lease)
    claim = told(station)[-1]
    assert claim["metadata"]["rule"] == "break_glass"
    assert claim["message_preview"].startswith("break-glass: ada (approver) and ben (approver)")


def test_cosignature_held_back_over_a_withdrawal_is_no_success(station: Station) -> None:
    lease = station.propose()
    held_back = station.sign("ada", Draft("cosignature", {"role": "approver", "review": None}, lease))
    withdraw(station, "ada", lease)
    station.append(held_back)
    last = told(station)[-1]
    assert last["metadata"]["event_type"] == "lease_event.COSIGNED"
    assert last["outcome"] == "stopped"
    assert last["metadata"]["withdrawn"] is True


def test_no_is_told(station: Station) -> None:
    lease = station.propose()
    station.review("cp14", lease, "fail")
    station.vote("ada", lease, "approver")
    withdraw(station, "ada", lease)
    withdraw(station, "ben", lease, "deny")
    rows = {row["metadata"]["event_type"]: row for row in told(station)}
    for name, who in (("REVIEWED", "cp14"), ("WITHDRAWN", "ada"), ("DENIED", "ben")):
        assert (rows[f"lease_event.{name}"]["agent"], rows[f"lease_event.{name}"]["outcome"]) == (who, "stopped")


def test_rolled_back_is_told_of_the_deployment_and_of_the_rollback(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    halt(station, lease)
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    restore(station, lease)
    halted, started, deployment, rollback = told(station)[-4:]
    assert (halted["metadata"]["cause"], halted["metadata"]["gate"], halted["metadata"]["tier"]) == (
        "breach",
        "error_rate",
        5,
    )
    assert started["metadata"]["event_type"] == "rollback_event.STARTED"
    assert (deployment["metadata"].pop("event_type"), deployment["outcome"]) == ("deploy_event.ROLLED_BACK", "stopped")
    assert (rollback["metadata"].pop("event_type"), rollback["outcome"]) == ("rollback_event.COMPLETE", "success")
    assert deployment["metadata"] == rollback["metadata"]


def test_failed_rollback_never_looks_like_a_success(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    halt(station, lease)
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
    left = sorted(station.state.deployments[lease[1]].intended)
    before = len(told(station))
    station.event("cp20", lease, "ROLLBACK_FAILED", instances=left, text="no answer")
    (row,) = told(station)[before:]
    assert (row["metadata"]["event_type"], row["outcome"]) == ("rollback_event.FAILED", "failed")
    assert not {"deploy_event.ROLLED_BACK", "rollback_event.COMPLETE"} & set(types(station))


def test_order_is_told_with_who_gave_it(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    pause = station.command("ben", lease, "pause", reason="another team looks")
    station.event("cp20", lease, "PAUSED", command=pause.digest, cause="ordered", text="")
    resume = station.command("ada", lease, "resume")
    station.event("cp20", lease, "RESUMED", command=resume.digest)
    paused, resumed = told(station)[-2:]
    assert paused["metadata"]["ordered_by"] == "ben"
    assert paused["metadata"]["command"] == pause.digest
    assert paused["message_preview"] == "pause by ben: another team looks"
    assert (resumed["metadata"]["ordered_by"], resumed["outcome"]) == ("ada", "success")


def test_failed_preflight_is_told_of_the_lease(station: Station) -> None:
    lease = station.propose()
    station.take_term()
    station.event("cp20", lease, "PREFLIGHT_FAILED", code="host_unreachable", instance="web-01", text="no answer")
    row = told(station)[-1]
    assert (row["metadata"]["event_type"], row["outcome"]) == ("lease_event.PREFLIGHT_FAILED", "failed")
    assert (row["metadata"]["code"], row["metadata"]["instance"]) == ("host_unreachable", "web-01")


def test_governance_is_no_event_of_a_lease(station: Station) -> None:
    before = feed(station)
    proposal = propose_policy(station, bake_s=45)
    station.vote("ada", ("policy", proposal.digest), "governor")
    assert feed(station) == before == []


def test_hostile_text_reaches_the_feed_inert_and_short(station: Station) -> None:
    lease = station.propose()
    reason = '\x1b[2J\u202e"}\n{"outcome":"success"}\u200b\x00' + "x" * 4000
    station.say("ada", "objection", {"verb": "deny", "reason": reason}, lease)
    line, row = feed(station)[-1], told(station)[-1]
    assert line.data.count(b"\n") == 1
    assert row["outcome"] == "stopped"
    assert len(row["message_preview"]) == 100
    assert row["message_preview"].startswith('<U+001B>[2J<U+202E>"}<U+000A>{"outcome":"success"}<U+200B><U+0000>x')
    assert row["message_preview"].endswith("x...")


def test_ledger_on_another_machine_gives_the_same_feed_and_the_same_lease(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    elsewhere = Feed()
    with Remote(station).home() as home:
        replay = home.open_replay(elsewhere)
        replay.sync()
        lines = elsewhere.take()
        assert lines == feed(station) != []
        station.deploy_tier(lease, 5)
        halt_now(station, lease)
        replay.sync()
        assert lines + elsewhere.take() == feed(station)
        state = replay.state
        there = view_lease(state, state.leases[lease[1]], home.open_store(), station.clock.now)
    state = station.state
    assert there == view_lease(state, state.leases[lease[1]], station.store, station.clock.now)


# docs/SVF.md


def example_block() -> str:
    """A rollout that halts and goes back, as the feed tells it."""
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        station = new_station(Path(root) / "station")
        lease = station.propose()
        station.begin(lease)
        halt(station, lease)
        station.event("cp20", lease, "ROLLBACK_STARTED", cause="breach", command=None)
        restore(station, lease)
        lines = b"".join(line.data for line in feed(station)).decode()
        station.store.close()
    return f"```json\n{lines}```"


def types_block() -> str:
    """Every type, its outcome and its meaning."""
    rows = ["| `metadata.event_type` | `outcome` | tells |", "|---|---|---|"]
    rows += [f"| `{name}` | `{outcome}` | {text} |" for name, (outcome, text) in EVENT_TYPES.items()]
    return "\n".join(rows)


PARTS: Final = {"types": types_block, "example": example_block}


@pytest.mark.parametrize("name", PARTS)
def test_the_document_of_the_feed_is_what_the_code_gives(name: str) -> None:
    assert read_part(SVF, name) == PARTS[name]()


if __name__ == "__main__":
    write_parts(SVF, PARTS)
