"""What was prepared for signing elsewhere: the bytes and back, what may sign them, and when they count no more."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from authenticator import VERIFIED, Token
from governing import newcomer, principal, propose_trust
from hypothesis import given
from hypothesis import strategies as st
from refusal import refused
from station import Station, new_station

from executor.signing import offline
from executor.signing.offline import (
    Prepared,
    check_attachable,
    find_signer,
    join_signature,
    read_prepared,
    read_signature,
    write_prepared,
)
from keys.openssh import OpenSshKey, format_public
from keys.sshsig import NAMESPACE_APPROVAL, format_armor, parse_blob, sign
from keys.sshsig import check as check_sshsig
from ledger.envelope import MAX_ENVELOPE, pae, parse_pae
from ledger.statement import Statement
from policies.fold.state import State
from policies.submitter import Draft, Receipt


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def prepare(station: Station, who: str, kind: str, fields: dict[str, Any], about: tuple[str, str]) -> Path:
    statement = station.registrar.draft_statement(who, Draft(kind, fields, about), machine=False)
    directory = station.root / f"prepared-{statement.nonce}"
    write_prepared(directory, statement, ["what it means"], None)
    return directory


def approval(station: Station, who: str, about: tuple[str, str], role: str = "approver") -> Path:
    return prepare(station, who, "cosignature", {"role": role, "review": None}, about)


def test_directory_of_another_user_is_not_prepared_in(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = station.root / "planted"
    planted.mkdir()
    if os.geteuid() == 0:
        os.chown(planted, 12_345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    draft = Draft("cosignature", {"role": "approver", "review": None}, ("LEASE-20260105-090000", "0" * 64))
    statement = station.registrar.draft_statement("ada", draft, machine=False)
    with refused("directory_of_another"):
        write_prepared(planted, statement, ["what it means"], None)
    assert list(planted.iterdir()) == []


def attach(station: Station, directory: Path, signed: bytes | None = None) -> Receipt:
    """What `calyx attach` does. `signed`: a blob, in place of one by the principal's only key."""
    state: State = station.state
    prepared = read_prepared(directory)
    statement = prepared.statement
    find_signer(state, statement)
    message = (directory / "to-sign").read_bytes()
    blob = signed or sign(station.keys[statement.by], NAMESPACE_APPROVAL, message)
    (directory / "to-sign.sig").write_text(format_armor(blob))
    envelope = join_signature(state, prepared, *read_signature(directory, statement))
    check_attachable(state, prepared, station.clock.now)
    return station.registrar.append([envelope])[0]


@given(st.binary(min_size=1, max_size=300))
def test_signed_bytes_and_body_lead_to_each_other(body: bytes) -> None:
    assert parse_pae(pae(body)) == body


@given(st.binary(min_size=1, max_size=40), st.integers(0, 80), st.integers(0, 255))
def test_signed_bytes_have_one_reading(body: bytes, at: int, byte: int) -> None:
    data = bytearray(pae(body))
    if at >= len(data) or data[at] == byte:
        return
    data[at] = byte
    changed = bytes(data)
    try:
        found = parse_pae(changed)
    except Exception as error:  # any refusal is one  # noqa: BLE001
        assert type(error).__name__ == "FormatError"
        return
    assert pae(found) == changed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DSSEv1 ",
        pae(b"x")[:-1],
        pae(b"x") + b"x",
        pae(b"x").replace(b" 1 x", b" 01 x"),
        pae(b"x").replace(b" 1 x", b" +1 x"),
        pae(b"x").replace(b"28", b"028"),
        pae(b""),
        pae(b"x").replace(b"vnd.in-toto", b"vnd.IN-toto"),
        b"DSSEv1 28 application/vnd.in-toto+json " + b"9" * 400 + b" x",
    ],
)
def test_signed_bytes_in_another_spelling_are_refused(data: bytes) -> None:
    with refused("bad_format"):
        parse_pae(data)


def test_statement_over_the_limit_is_refused_before_it_is_parsed() -> None:
    with refused("too_large"):
        parse_pae(pae(b"x" * (MAX_ENVELOPE + 1)))


def test_prepared_directory_is_whole_or_not_there(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = station.propose()
    written: list[str] = []

    def fail(path: Path, data: bytes, mode: int) -> None:
        del data, mode
        written.append(path.name)
        if path.name == "to-sign":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(offline, "replace_file", fail)
    with refused("prepare_failed"):
        approval(station, "ada", lease)
    # What is signed comes last: where it lies, the rest lies too.
    assert written == ["rendering.txt", "README.txt", "to-sign"]


def test_place_that_is_no_directory_is_refused(station: Station) -> None:
    path = station.root / "file"
    path.write_text("x")
    statement = station.registrar.draft_statement(
        "ada", Draft("cosignature", {"role": "approver", "review": None}, station.propose()), machine=False
    )
    with refused("prepare_failed"):
        write_prepared(path, statement, [], None)
    assert path.read_text() == "x"


def test_directory_that_others_could_write_to_is_narrowed(station: Station) -> None:
    path = station.root / "wide"
    path.mkdir(0o777)
    path.chmod(0o777)
    fields = {"role": "approver", "review": None}
    statement = station.registrar.draft_statement("ada", Draft("cosignature", fields, station.propose()), machine=False)
    write_prepared(path, statement, [], None)
    assert [os.stat(path / name).st_mode & 0o777 for name in (".", "to-sign")] == [0o700, 0o600]  # noqa: PTH116


def test_hostile_name_of_the_directory_does_not_reach_the_readme(station: Station) -> None:
    path = station.root / "a\x1b[2J; rm -rf $HOME"
    fields = {"role": "approver", "review": None}
    statement = station.registrar.draft_statement("ada", Draft("cosignature", fields, station.propose()), machine=False)
    write_prepared(path, statement, ["\x1b[2J"], None)
    for name in ("README.txt", "rendering.txt"):
        assert b"\x1b" not in (path / name).read_bytes()
    assert "calyx attach 'a<U+001B>[2J; rm -rf $HOME'" in (path / "README.txt").read_text()


def test_prepared_approval_counts_once_attached(station: Station) -> None:
    lease = station.propose()
    directory = approval(station, "ada", lease)
    receipt = attach(station, directory)
    assert station.state.leases[lease[1]].ballot.standing()[0].seq == receipt.seq


def test_approval_attached_after_the_claim_points_to_the_rollback(station: Station) -> None:
    lease = station.propose()
    late = approval(station, "ben", lease)
    station.approve(lease)
    station.take_term()
    seq = station.claim(lease).seq
    with refused("lease_consumed", rule="claim", step=8, entry=seq) as caught:
        attach(station, late)
    assert "calyx rollback" in caught.value.hint


def test_approval_attached_under_another_policy_names_its_entry(station: Station) -> None:
    lease = station.propose()
    late = approval(station, "ada", lease)
    fields = {"base": station.state.policy_digest, "reason": "", "approve_by": station.after(60)}
    policy = {**station.policy, "deploy_production": {**station.policy["deploy_production"], "bake_s": 60}}
    digest = station.say("ada", "policy", {**fields, "policy": policy}).digest
    seq = station.vote("ada", ("policy", digest), "governor").seq
    with refused("stale_policy", rule="two_key", step=2, entry=seq):
        attach(station, late)


def test_withdrawal_of_someone_else_stops_nothing(station: Station) -> None:
    lease = station.propose()
    ours = approval(station, "ada", lease)
    station.say("ben", "objection", {"verb": "withdraw", "reason": ""}, lease)
    attach(station, ours)
    assert [vote.signer.principal for vote in station.state.leases[lease[1]].ballot.standing()] == ["ada"]


def test_withdrawal_that_the_signer_had_seen_stops_nothing(station: Station) -> None:
    lease = station.propose()
    station.say("ada", "objection", {"verb": "withdraw", "reason": ""}, lease)
    station.registrar.sync()
    attach(station, approval(station, "ada", lease))
    assert len(station.state.leases[lease[1]].ballot.standing()) == 1


@pytest.mark.parametrize("who", ["cbo", "cp14"])
def test_statement_of_a_machine_is_not_attached(station: Station, who: str) -> None:
    directory = approval(station, who, station.propose())
    with refused("not_a_human"):
        find_signer(station.state, read_prepared(directory).statement)


def test_statement_of_nobody_is_not_attached(station: Station) -> None:
    directory = approval(station, "zoe", station.propose())
    with refused("unknown_principal"):
        find_signer(station.state, read_prepared(directory).statement)


def test_key_of_another_human_does_not_sign_for_this_one(station: Station) -> None:
    directory = approval(station, "ada", station.propose())
    message = (directory / "to-sign").read_bytes()
    with refused("unknown_key"):
        attach(station, directory, sign(station.keys["ben"], NAMESPACE_APPROVAL, message))


def test_newcomer_cosigns_the_root_that_brings_them_in(station: Station) -> None:
    root = newcomer(station)
    receipt = propose_trust(station, root)
    directory = approval(station, "dan", ("trust", receipt.digest), role="governor")
    attach(station, directory)
    votes = station.state.proposals[receipt.digest].ballot.standing()
    assert [vote.signer.principal for vote in votes] == ["dan"]
    lease = station.propose()
    with refused("unknown_principal"):
        find_signer(station.state, read_prepared(approval(station, "dan", lease)).statement)


def with_token(station: Station, token: Token, *, user_verification: bool) -> None:
    """A second key for ada: a token's."""
    root = station.trust()
    line = {"key": format_public(OpenSshKey(token.blob)), "user_verification": user_verification}
    principal(root, "ada")["keys"].append(line)
    digest = propose_trust(station, root, who="ben").digest
    station.vote("ben", ("trust", digest), "governor")
    assert station.state.trust_digest == digest


def test_token_signs_elsewhere_as_a_key_file_does(station: Station) -> None:
    token = Token()
    with_token(station, token, user_verification=True)
    lease = station.propose()
    directory = approval(station, "ada", lease)
    message = (directory / "to-sign").read_bytes()
    with refused("user_unverified"):
        attach(station, directory, token.sign(NAMESPACE_APPROVAL, message))
    with refused("user_absent"):
        attach(station, directory, token.sign(NAMESPACE_APPROVAL, message, flags=0))
    attach(station, directory, token.sign(NAMESPACE_APPROVAL, message, flags=1 | VERIFIED))
    assert station.state.leases[lease[1]].ballot.standing()[0].signer.keyid != station.signer("ada").keyid


def test_signature_file_that_is_read_back_is_the_one_that_was_made(station: Station) -> None:
    directory = approval(station, "ada", station.propose())
    message = (directory / "to-sign").read_bytes()
    blob = sign(station.keys["ada"], NAMESPACE_APPROVAL, message)
    (directory / "to-sign.sig").write_text(format_armor(blob))
    statement = read_prepared(directory).statement
    parsed, found = read_signature(directory, statement)
    assert found == blob
    assert parsed == parse_blob(blob)
    check_sshsig(found, key=parsed.key, namespace=parsed.namespace, message=message, user_verification=False)


def until_of(station: Station, kind: str, fields: dict[str, Any], about: tuple[str, str] | None) -> str | None:
    statement: Statement = station.registrar.draft_statement("ada", Draft(kind, fields, about), machine=False)
    return offline.return_by(station.state, statement)


def test_time_by_which_it_must_be_back_is_the_laws(station: Station) -> None:
    lease = station.propose()
    cosigned = {"role": "approver", "review": None}
    assert until_of(station, "cosignature", cosigned, lease) == station.after(3600)
    proposal = next(iter(station.state.proposals.values()))
    subject = ("fleet", proposal.digest)
    assert until_of(station, "cosignature", cosigned, subject) == proposal.proposal.approve_by
    assert until_of(station, "objection", {"verb": "deny", "reason": ""}, lease) is None
    order = {"verb": "abort", "state": None, "tier": None, "skip_bake": False, "reason": ""}
    assert until_of(station, "command", {**order, "expires_at": station.after(9)}, lease) == station.after(9)


@pytest.mark.parametrize(
    "edit",
    [
        lambda body: body.replace(b'"role":"approver"', b'"role":"Approver"'),
        lambda body: body.replace(b'"review":null', b'"extra":1,"review":null'),
        lambda body: body.replace(b"cosignature/v1", b"cosignature/v2"),
        lambda body: body.replace(b'","head"', b'", "head"'),
    ],
)
def test_statement_of_another_form_is_refused_as_changed(station: Station, edit: Callable[[bytes], bytes]) -> None:
    directory = approval(station, "ada", station.propose())
    path = directory / "to-sign"
    body = parse_pae(path.read_bytes())
    assert edit(body) != body
    path.write_bytes(pae(edit(body)))
    with pytest.raises(Exception, match="was changed") as caught:
        read_prepared(directory)
    assert type(caught.value).__name__ == "FormatError"


def test_what_is_read_is_no_proof(station: Station) -> None:
    """A prepared statement that nobody signed has no place in any envelope."""
    directory = approval(station, "ada", station.propose())
    assert isinstance(read_prepared(directory), Prepared)
    with refused("not_signed"):
        read_signature(directory, read_prepared(directory).statement)
