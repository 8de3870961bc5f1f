"""Whoever holds one thing and wants another: a copy of the ledger, a stolen key, the ledger's host, the executor's."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Forced, Lease, appended, approval, approved, claim_of, judged, objection, repelled
from refusal import refused
from station import Station, matrix, new_station

from keys.canonical import format_json
from keys.openssh import new_private_key
from ledger.envelope import Envelope
from ledger.log_key import LogKey
from ledger.record import make_record, parse_record
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.pin import Pin
from policies.replay import Replay
from policies.submitter import Draft

PASSED = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.mark.parametrize("who", ["ada", "ben", "cbo", "cp14", "cp18", "cp19", "cp20"])
def test_outsider_with_the_ledger_file_appends_nothing(station: Station, who: str) -> None:
    """Everything is known to them but a key."""
    lease = station.propose()
    stranger = station.signer(who, new_private_key(station.random))
    repelled(station, station.sign(who, QUESTION, signer=stranger), "unknown_key")
    repelled(station, station.sign(who, approval(lease), signer=stranger), "unknown_key")


def test_outsider_with_the_ledger_file_has_no_log_key(station: Station) -> None:
    """A true statement that somebody else signed, under a checkpoint of the outsider's own log key."""
    vote = station.sign("ada", approval(station.propose()))
    log_key = LogKey.generate("station.example/calyx", station.random)
    with Forced.copy(station) as forced:
        head = forced.store.head()
        forced.store.append(head, [make_record(head.size, head.hash, forced.time(), vote)], log_key.sign)
        report = forced.audit()
        assert [finding["code"] for finding in report["findings"]] == ["bad_checkpoint"]
        with refused("unknown_key"):
            Replay(forced.store, station.objects, None).sync()
        with refused("unknown_key"):
            forced.executor().run(until_idle=True)


def test_outsider_with_the_ledger_file_forges_the_logs_signature(station: Station) -> None:
    """Under the log's own name and key id, 64 bytes that it did not sign."""
    vote = station.sign("ada", approval(station.propose()))

    def forge(size: int, root: bytes) -> bytes:
        text, _, line = station.log_key.sign(size, root).decode().rpartition(" ")
        raw = base64.b64decode(line)
        return f"{text} {base64.b64encode(raw[:4] + bytes(64)).decode()}\n".encode()

    with Forced.copy(station) as forced:
        head = forced.store.head()
        forced.store.append(head, [make_record(head.size, head.hash, forced.time(), vote)], forge)
        assert [finding["code"] for finding in forced.audit()["findings"]] == ["bad_checkpoint"]
        with refused("bad_signature"):
            Replay(forced.store, station.objects, None).sync()
        with refused("bad_signature"):
            forced.executor().run(until_idle=True)


ORDERS: dict[str, Callable[[Lease], Draft]] = {
    "approve": approval,
    "deny": lambda lease: objection(lease, "deny"),
    "propose": lambda lease: Draft("intent", {"id": "INT-20260105-009", "target": "web", "what": "", "why": ""}),
    "term": lambda lease: Draft("term", {"epoch": 2, "reason": "mine"}),
}


@pytest.mark.parametrize(
    ("order", "code"),
    [("approve", "role_missing"), ("deny", "role_missing"), ("propose", "role_missing"), ("term", "wrong_kind")],
)
@pytest.mark.parametrize("who", ["cp14", "cp18"])
def test_stolen_agent_key_does_only_what_the_agent_may(station: Station, who: str, order: str, code: str) -> None:
    lease = station.propose()
    station.take_term()
    repelled(station, station.sign(who, ORDERS[order](lease)), code, rule="roles")


def test_both_agent_keys_stolen_deploy_nothing(station: Station) -> None:
    lease = station.propose()
    station.review("cp14", lease)
    station.review("cp18", lease)
    station.take_term()
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5, missing="human")
    # Nor with the executor's key stolen too, which signed the claim above, and gives no order.
    for who in ("cp14", "cp18", "cp20"):
        repelled(station, claim_of(station, lease, who=who), "quorum_unmet" if who == "cp20" else "wrong_kind")


def test_stolen_human_key_deploys_nothing_alone(station: Station) -> None:
    lease = station.propose()
    station.vote("ada", lease, "approver")
    repelled(station, station.sign("ada", Draft("review", PASSED, lease)), "role_missing", rule="roles")
    repelled(station, station.sign("ada", approval(lease, "sentinel")), "role_missing", rule="roles")
    station.take_term()
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5, missing="agent")
    repelled(station, claim_of(station, lease, who="ada"), "wrong_kind", rule="roles")
    station.vote("ben", lease, "approver")
    repelled(station, claim_of(station, lease), "quorum_unmet", rule="two_key", step=5, missing="agent")


def command(station: Station, lease: Lease, verb: str, **changes: Any) -> Envelope:
    deployment = station.state.deployments[lease[1]]
    bound = verb in {"start", "resume", "promote"}
    fields = {
        "verb": verb,
        "expires_at": station.after(600),
        "state": deployment.state_leaf if bound else None,
        "tier": deployment.tier if verb == "promote" else None,
        "skip_bake": False,
        "reason": "stolen",
        **changes,
    }
    return station.sign("ada", Draft("command", fields, lease))


@pytest.mark.parametrize("verdict", ["breach", "abort", "missing"])
def test_stolen_human_key_promotes_nothing_past_a_breach(tmp_path: Path, verdict: str) -> None:
    station = new_station(tmp_path, policy=matrix(promotion="manual", skip_bake=True))
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    for n in (1, 2):
        station.sample(lease, 5, n)
        station.verdict(lease, 5, n, verdict)
    repelled(station, command(station, lease, "promote"), "health_refused", rule="health")
    repelled(station, command(station, lease, "promote", skip_bake=True), "health_refused", rule="health")
    station.append(command(station, lease, "pause"))
    repelled(station, command(station, lease, "resume"), "health_refused", rule="health")
    # And what it may do: stop, and go back.
    appended(station, command(station, lease, "abort"))
    appended(station, command(station, lease, "rollback"))


def test_stolen_human_key_skips_no_bake_without_the_policys_leave(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    repelled(station, command(station, lease, "promote", skip_bake=True), "skip_not_allowed", rule="command")


def test_order_for_a_state_that_is_gone(station: Station) -> None:
    """A promote that was given for one state is no promote of the next."""
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    leaked = command(station, lease, "promote")
    station.append(command(station, lease, "pause"))
    repelled(station, leaked, "stale_command", rule="command")


@pytest.mark.parametrize("who", ["cbo", "cp14", "cp19", "cp20"])
def test_machine_gives_an_order(station: Station, who: str) -> None:
    lease = station.propose()
    station.begin(lease)
    fields = {"verb": "rollback", "expires_at": station.after(60), "state": None, "tier": None, "skip_bake": False}
    draft = Draft("command", {**fields, "reason": ""}, lease)
    repelled(station, station.sign(who, draft), "role_missing", rule="roles")


def forged(station: Station, envelopes: list[Envelope]) -> Path:
    """Another history of the same ledger: the host's, who holds the log key and nobody else's."""
    path = station.root / "forged.db"
    path.unlink(missing_ok=True)
    with SqliteStore.create(path) as store:
        for envelope in envelopes:
            head = store.head()
            store.append(head, [make_record(head.size, head.hash, station.clock.now, envelope)], station.log_key.sign)
    return path


def envelopes_of(station: Station) -> list[Envelope]:
    return [parse_record(data).envelope for data in station.store.read()]


def refuses_history(station: Station, envelopes: list[Envelope], entry: int) -> None:
    """The audit names the entry where the history departs from what was signed, and no reader goes past it."""
    with SqliteStore.open(forged(station, envelopes), read_only=True) as store:
        report = audit(store, station.objects, remembered=None)
        assert not report.ok
        assert report.findings[0].entry == entry
        with refused("unlawful_entry", entry=entry):
            Replay(store, station.objects, None).sync()


def test_ledger_host_drops_an_entry(station: Station) -> None:
    """The denial is dropped, and every later signature says that it was there."""
    lease = station.propose()
    denied = station.append(station.sign("ben", objection(lease, "deny"))).seq
    for _ in range(2):
        station.append(station.sign("ada", QUESTION))
    kept = envelopes_of(station)
    del kept[denied]
    refuses_history(station, kept, denied)


def test_ledger_host_reorders_two_entries(station: Station) -> None:
    lease = station.propose()
    first = station.append(station.sign("ada", approval(lease))).seq
    station.append(station.sign("ada", objection(lease)))
    station.append(station.sign("ben", QUESTION))
    kept = envelopes_of(station)
    kept[first], kept[first + 1] = kept[first + 1], kept[first]
    refuses_history(station, kept, first)


def test_ledger_host_puts_an_old_statement_in_between(station: Station) -> None:
    """A leaked approval is put before what came later, and contradicts the first head that lies behind it."""
    lease = station.propose()
    vote = station.sign("ada", approval(lease))
    station.append(station.sign("ada", objection(lease)))
    for _ in range(2):
        station.append(station.sign("ben", QUESTION))
    kept = envelopes_of(station)
    kept.insert(-2, vote)
    refuses_history(station, kept, len(kept) - 1)


def test_ledger_host_changes_a_word(station: Station) -> None:
    station.say("ada", "message", {**QUESTION.fields, "text": "no deployment today"})
    kept = envelopes_of(station)
    old = kept[-1]
    body = old.body.replace(b"no deploy", b"go deploy")
    statement = json.loads(body)
    statement["subject"][0]["digest"]["sha256"] = sha256(format_json(statement["predicate"])).hexdigest()
    # The subject is the digest of the predicate, so the words alone are no statement any more.
    for changed, code in ((body, "bad_format"), (format_json(statement), "bad_signature")):
        kept[-1] = Envelope(changed, old.keyid, old.sig)
        repelled(station, kept[-1], code)
        with SqliteStore.open(forged(station, kept), read_only=True) as store:
            report = audit(store, station.objects, remembered=None)
            assert report.findings[0].entry == len(kept) - 1
            assert report.decided == len(kept) - 1


def test_ledger_host_forks_the_ledger(station: Station) -> None:
    """Two readers are shown two histories; the one that remembers its own refuses the other."""
    lease = station.propose()
    fork = envelopes_of(station)
    station.append(station.sign("ben", objection(lease, "deny")))
    known = station.memory.load(str(station.root))
    assert known is not None
    with SqliteStore.open(forged(station, fork)) as store:
        pin = Pin(station.memory, str(station.root))
        with refused("head_contradicted"):
            Replay(store, station.objects, pin).sync()
        # As long as the one that is remembered, and other than it.
        head = store.head()
        vote = station.sign("ada", approval(lease), head={"size": head.size, "hash": head.hash})
        store.append(head, [make_record(head.size, head.hash, station.clock.now, vote)], station.log_key.sign)
        assert store.head().size == known.size
        with refused("head_contradicted"):
            Replay(store, station.objects, pin).sync()
        report = audit(store, station.objects, remembered=known)
        assert "head_contradicted" in {finding.code for finding in report.findings}


def test_ledger_host_cuts_the_end(station: Station) -> None:
    """The denial is cut off with an older checkpoint in its place, and only who remembers sees it."""
    lease = station.propose()
    station.append(station.sign("ada", approval(lease)))
    kept = envelopes_of(station)
    station.append(station.sign("ben", objection(lease, "deny")))
    known = station.memory.load(str(station.root))
    assert known is not None
    assert (known.ledger, known.head) == (station.state.ledger, station.registrar.head)
    with closing(sqlite3.connect(station.root / "ledger.db")) as source:
        old = [bytes(row[0]) for row in source.execute("SELECT data FROM record WHERE seq < ?", (len(kept),))]
    path = station.root / "cut.db"
    with SqliteStore.create(path) as store:
        store.append(store.head(), [parse_record(data) for data in old], station.log_key.sign)
        honest = audit(store, station.objects, remembered=None)
        assert honest.ok
        assert any("a cut after" in text for text in honest.notes)
        report = audit(store, station.objects, remembered=known)
        assert [finding.code for finding in report.findings] == ["head_contradicted"]
        with refused("head_contradicted"):
            Replay(store, station.objects, Pin(station.memory, str(station.root))).sync()


def test_executor_host_forges_an_approval(station: Station) -> None:
    """It holds CP20's, CP19's and the log key, and the database."""
    lease = station.propose()
    station.take_term()
    for who in ("cp20", "cp19"):
        for role, code in (("approver", "role_missing"), ("sentinel", "role_missing"), ("governor", "wrong_role")):
            repelled(station, station.sign(who, approval(lease, role)), code, rule="roles")
        repelled(station, station.sign(who, Draft("review", PASSED, lease)), "role_missing", rule="roles")
    stolen = station.signer("ada", station.keys["cp20"])
    repelled(station, station.sign("ada", approval(lease), signer=stolen), "unknown_key")
    honest = station.sign("ada", approval(lease), signer=stolen)
    repelled(station, Envelope(honest.body, station.signer("ada").keyid, honest.sig), "wrong_key")
    repelled(station, claim_of(station, lease, 1, 2), "quorum_unmet", rule="two_key", step=5)


def test_executor_host_goes_on_without_the_claim(station: Station) -> None:
    lease = approved(station)
    event = Draft("event", {"epoch": 1, "detail": {"type": "STARTED"}}, lease)
    repelled(station, station.sign("cp20", event), "not_claimed", rule="subject")


@pytest.mark.parametrize("type_", ["BASELINE", "SAMPLE", "VERDICT"])
def test_executor_speaks_for_the_monitor(station: Station, type_: str) -> None:
    """The executor cannot call its own work healthy."""
    lease = station.propose()
    station.begin(lease)
    station.deploy_tier(lease, 5)
    details: dict[str, dict[str, Any]] = {
        "BASELINE": {"values": None},
        "SAMPLE": {"tier": 5, "n": 1, "values": [], "trees": [], "raw": None},
        "VERDICT": {"tier": 5, "n": 0, "verdict": "pass", "gate": None, "text": ""},
    }
    draft = Draft("event", {"epoch": None, "detail": {"type": type_, **details[type_]}}, lease)
    repelled(station, station.sign("cp20", draft), "wrong_kind", rule="roles")


def test_stolen_monitor_key_signs_nothing_but_what_it_sees(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    for detail in ({"type": "COMPLETED"}, {"type": "ROLLED_BACK"}, {"type": "HALTED", "cause": "x"}):
        if detail["type"] == "HALTED":
            detail |= {"evidence": None, "gate": None, "text": ""}  # type: ignore[dict-item]  # JSON material
        draft = Draft("event", {"epoch": 1, "detail": detail}, lease)
        repelled(station, station.sign("cp19", draft), "wrong_kind", rule="roles")


def test_executor_that_was_replaced_acts_on(station: Station) -> None:
    lease = approved(station)
    station.take_term("cp20b")
    repelled(station, claim_of(station, lease, epoch=1), "fenced", rule="epoch")
    repelled(station, claim_of(station, lease, epoch=2), "fenced", rule="epoch")
    repelled(station, station.sign("cp20", Draft("term", {"epoch": 2, "reason": ""})), "wrong_epoch", rule="epoch")
    judged(station, claim_of(station, lease, who="cp20b"), None)
