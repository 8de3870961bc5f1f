"""Attacks on who says it: another principal's name, one key in disguise, another ledger, a key that was revoked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from assault import QUESTION, Forced, Lease, approval, claim_of, repelled
from authenticator import Token, field
from edwards import BASE, EIGHTH, add, encode
from governing import principal, propose_trust, revoke
from refusal import refused
from station import Station, new_station
from typer.testing import CliRunner

from executor.command_line import app
from keys.openssh import PrivateKey, format_public, new_private_key
from keys.openssh_public import plain_key
from keys.values import format_base64
from ledger.envelope import Envelope
from ledger.record import parse_record
from ledger.statement import make_statement, parse_statement
from ledger.verified import sign_statement
from policies.pin import Pin
from policies.submitter import Draft

SMALL_ORDER = {
    "identity": "01" + "00" * 31,
    "order-2": "ec" + "ff" * 30 + "7f",
    "order-4": "00" * 32,
    "order-4-negative": "00" * 31 + "80",
    "order-8-a": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order-8-b": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order-8-c": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order-8-d": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "identity-as-p-plus-1": "ee" + "ff" * 30 + "7f",
    "identity-with-sign": "01" + "00" * 30 + "80",
    "zero-as-p": "ed" + "ff" * 30 + "7f",
    "not-on-the-curve": "02" + "00" * 31,
    "mixed-order": encode(add(BASE, EIGHTH)).hex(),
}


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.mark.parametrize(("thief", "victim"), [("cbo", "ada"), ("ada", "ben"), ("cp14", "cp18"), ("cp20", "cp19")])
def test_by_another_principal(station: Station, thief: str, victim: str) -> None:
    repelled(station, station.sign(thief, QUESTION, by=victim), "unknown_key")


@pytest.mark.parametrize(("thief", "victim", "code"), [("ben", "ada", "wrong_key"), ("cp18", "cp14", "bad_signature")])
def test_by_another_principal_with_the_key_id_of_its_key(station: Station, thief: str, victim: str, code: str) -> None:
    """The key id is a claim, and only its key is tried."""
    envelope = station.sign(thief, QUESTION, by=victim)
    repelled(station, Envelope(envelope.body, station.signer(victim).keyid, envelope.sig), code)


def test_approval_in_the_name_of_the_approver_by_an_agent(station: Station) -> None:
    lease = station.propose()
    station.review("cp14", lease)
    repelled(station, station.sign("cp18", approval(lease), by="ada"), "unknown_key")


def with_second_key(root: Path, who: str, **options: Any) -> tuple[Station, PrivateKey]:
    """A station in which one principal holds two keys."""
    station = Station(root, **options)
    second = new_private_key(station.random)
    trust = station.trust()
    principal(trust, who)["keys"].append({"key": format_public(second.public), "user_verification": False})
    station.trust = lambda **_: trust  # type: ignore[method-assign]  # this station's genesis has one key more
    station.genesis()
    station.enact_fleet()
    return station, second


def emergency(station: Station) -> Lease:
    window = {"execute_by": station.after(900), "approve_by": station.after(900)}
    return station.propose(rule="break_glass", reason="the site is down", **window)


def test_signer_counted_twice(station: Station) -> None:
    lease = station.propose()
    first = station.vote("ada", lease, "approver")
    repelled(station, station.sign("ada", approval(lease)), "already_cosigned", rule="cosignature")
    station.take_term()
    repelled(station, claim_of(station, lease, first.seq, first.seq), "quorum_unmet", rule="two_key", step=5)


@pytest.mark.parametrize("rule", ["two_key", "break_glass"])
def test_signer_counted_twice_with_a_second_key(tmp_path: Path, rule: str) -> None:
    station, second = with_second_key(tmp_path, "ada")
    lease = station.propose() if rule == "two_key" else emergency(station)
    first = station.vote("ada", lease, "approver")
    again = station.append(station.sign("ada", approval(lease), signer=station.signer("ada", second)))
    station.take_term()
    repelled(station, claim_of(station, lease, first.seq, again.seq), "quorum_unmet", rule="two_key", step=5)


def test_agent_counted_twice_with_a_second_key(tmp_path: Path) -> None:
    station, second = with_second_key(tmp_path, "cp14")
    lease = station.propose()
    first = station.review("cp14", lease)
    review = station.state.leases[lease[1]].reviews["cp14"].digest
    vote = approval(lease, "sentinel", review)
    again = station.append(station.sign("cp14", vote, signer=station.signer("cp14", second)))
    station.take_term()
    repelled(station, claim_of(station, lease, first.seq, again.seq), "quorum_unmet", step=5, missing="human")


def proposal_of(station: Station, trust: dict[str, Any], who: str = "ada") -> Envelope:
    """A trust proposal, signed and not submitted."""
    fields = {"base": station.state.trust_digest, "reason": "a test", "approve_by": station.after(60), "trust": trust}
    return station.sign(who, Draft("trust", fields))


def entry(line: str, verified: bool = False) -> dict[str, Any]:
    return {"key": line, "user_verification": verified}


def token_line(raw: bytes, application: bytes = b"ssh:") -> str:
    blob = field(b"sk-ssh-ed25519@openssh.com") + field(raw) + field(application)
    return f"sk-ssh-ed25519@openssh.com {format_base64(blob)}"


def as_second_principal(station: Station, trust: dict[str, Any]) -> None:
    person = {"id": "eve", "kind": "human", "custodian": "eve", "roles": ["approver"]}
    trust["principals"].append({**person, "keys": principal(trust, "ada")["keys"]})


def as_token(station: Station, trust: dict[str, Any]) -> None:
    person = {"id": "eve", "kind": "human", "custodian": "eve", "roles": ["approver"]}
    raw = bytes(station.keys["ada"].public.raw)
    trust["principals"].append({**person, "keys": [entry(token_line(raw))]})


def as_token_of_another_application(station: Station, trust: dict[str, Any]) -> None:
    token = Token()
    principal(trust, "ada")["keys"] = [entry(token_line(token.raw))]
    principal(trust, "ben")["keys"] = [entry(token_line(token.raw, b"ssh:other"))]


def as_machine(station: Station, trust: dict[str, Any]) -> None:
    principal(trust, "cp14")["keys"] = principal(trust, "ada")["keys"]


def twice_in_one_hand(station: Station, trust: dict[str, Any]) -> None:
    principal(trust, "ada")["keys"] *= 2


def as_log_key(station: Station, trust: dict[str, Any]) -> None:
    principal(trust, "cp14")["keys"] = [entry(format_public(plain_key(station.log_key.vkey.public)))]


def as_the_same_id_in_capitals(station: Station, trust: dict[str, Any]) -> None:
    fresh = format_public(new_private_key(station.random).public)
    trust["principals"].append({**principal(trust, "ada"), "id": "ADA", "custodian": "eve", "keys": [entry(fresh)]})


@pytest.mark.parametrize(
    "disguise",
    [
        as_second_principal,
        as_token,
        as_token_of_another_application,
        as_machine,
        twice_in_one_hand,
        as_log_key,
        as_the_same_id_in_capitals,
    ],
)
def test_one_key_two_ids(station: Station, disguise: Any) -> None:
    trust = station.trust()
    disguise(station, trust)
    repelled(station, proposal_of(station, trust), "bad_trust_root", rule="trust_root")


def test_key_of_one_who_left_comes_back_under_another_id(station: Station) -> None:
    trust = station.trust()
    gone = principal(trust, "ben")
    trust["principals"].remove(gone)
    proposal = propose_trust(station, trust)
    station.vote("ada", ("trust", proposal.digest), "governor")
    trust["principals"].append({**gone, "id": "eve", "custodian": "eve"})
    repelled(station, proposal_of(station, trust), "bad_trust_root", rule="trust_root")


@pytest.mark.parametrize("name", SMALL_ORDER)
def test_small_order_or_identity_key_at_enrolment(station: Station, name: str) -> None:
    """Under such a key anyone can sign, or one signature fits many statements."""
    trust = station.trust()
    blob = field(b"ssh-ed25519") + field(bytes.fromhex(SMALL_ORDER[name]))
    principal(trust, "ben")["keys"] = [entry(f"ssh-ed25519 {format_base64(blob)}")]
    repelled(station, proposal_of(station, trust), "bad_format")


@pytest.mark.parametrize("application", [b"", b"https://example.org", b"ssh:\n", b"ssh:" + b"x" * 252])
def test_token_key_of_a_foreign_application_at_enrolment(station: Station, application: bytes) -> None:
    trust = station.trust()
    principal(trust, "ben")["keys"] = [entry(token_line(Token().raw, application))]
    repelled(station, proposal_of(station, trust), "bad_format")


def twin_of(station: Station, root: Path) -> Station:
    """Another ledger with the same origin, log key, principals and keys; only record 0 has another nonce."""
    twin = Station(root)
    twin.random(1)
    twin.genesis()
    twin.enact_fleet()
    assert twin.log_key.origin == station.log_key.origin
    assert twin.state.ledger != station.state.ledger
    return twin


def test_cosignature_from_another_ledger_with_the_same_origin(station: Station, tmp_path: Path) -> None:
    twin = twin_of(station, tmp_path / "twin")
    lease, other = station.propose(), twin.propose()
    assert lease[0] == other[0]
    vote = twin.sign("ada", approval(other))
    repelled(station, vote, "wrong_ledger", rule="identity")
    # It would not count either if it named this lease, or said it was of this ledger.
    repelled(station, twin.sign("ada", approval(lease)), "wrong_ledger", rule="identity")
    here = twin.sign("ada", approval(lease), ledger=station.state.ledger)
    repelled(station, here, "head_contradicted", rule="heads")


def test_another_ledger_with_the_same_origin_at_the_same_home(station: Station, tmp_path: Path) -> None:
    """Nobody who read the one there takes the other for it: a process that goes on, the executor, or a command."""
    twin = twin_of(station, tmp_path / "twin")
    pin = Pin(station.memory, str(station.root))
    with Forced.copy(twin) as presented:
        before = station.memory.load(str(station.root))
        for use in (presented.registrar(pin).sync, lambda: presented.executor(pin).run(until_idle=True)):
            with refused("head_contradicted"):
                use()
        assert station.memory.load(str(station.root)) == before
        assert presented.store.head().size == twin.state.size
    with Forced.copy(station) as here, Forced.copy(twin) as presented:
        home = ["--home", str(here.home)]
        assert CliRunner().invoke(app, ["status", *home]).exit_code == 0
        here.store.close()
        presented.store.close()
        shutil.copy(presented.home / "ledger.db", here.home / "ledger.db")
        said = CliRunner().invoke(app, ["status", *home])
        assert said.exit_code == 1
        assert "error: head_contradicted: " in said.stderr
        assert "head_contradicted" in {finding["code"] for finding in here.audit()["findings"]}


def test_genesis_twice(station: Station) -> None:
    first = parse_statement(parse_record(next(station.store.read(0, 1))).envelope.body)
    again = make_statement("genesis", {**first.predicate, "nonce": "ab" * 16})
    repelled(station, sign_statement(again, station.signer("ada")), "misplaced_genesis", rule="genesis")


def test_own_genesis_over_the_ledger_of_others(station: Station) -> None:
    """Someone without any key in this ledger begins it anew at its end."""
    mallory = Station(station.root / "mallory", seed=2)
    mallory.genesis()
    envelope = parse_record(next(mallory.store.read(0, 1))).envelope
    repelled(station, envelope, "misplaced_genesis", rule="genesis")


def test_compromised_key_signs_on(station: Station) -> None:
    stolen = station.keys["ada"]
    revoke(station, "ada", 3)
    lease = station.propose()
    repelled(station, station.sign("ada", approval(lease), signer=station.signer("ada", stolen)), "unknown_key")


def returned(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    principal(trust, "ada")["keys"].append(entry(format_public(stolen.public)))


def returned_as_token(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    principal(trust, "ada")["keys"].append(entry(token_line(bytes(stolen.public.raw))))


def returned_and_forgotten(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    trust["compromised"] = []
    returned(station, trust, stolen)


def forgotten(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    trust["compromised"] = []


def moved_later(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    trust["compromised"] = [{**trust["compromised"][0], "position": 4}]


def respelled(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    trust["compromised"] = [{"key": token_line(bytes(stolen.public.raw)), "position": 4}]


def returned_to_another(station: Station, trust: dict[str, Any], stolen: PrivateKey) -> None:
    trust["compromised"] = []
    principal(trust, "ben")["keys"] = [entry(format_public(stolen.public))]


@pytest.mark.parametrize(
    "trick",
    [returned, returned_as_token, returned_and_forgotten, forgotten, moved_later, respelled, returned_to_another],
)
def test_compromised_key_that_returns(station: Station, trick: Any) -> None:
    stolen = station.keys["ada"]
    revoke(station, "ada", 3)
    trust = station.trust(compromised=[{"key": format_public(stolen.public), "position": 3}])
    trick(station, trust, stolen)
    repelled(station, proposal_of(station, trust, who="ben"), "bad_trust_root", rule="trust_root")
