from __future__ import annotations

from typing import Any

import pytest
from authenticator import Token

from keys.errors import CalyxError, FormatError, LawRefused, SignatureRefused
from keys.openssh import PrivateKey, fingerprint, format_public, parse_blob
from keys.principals import Kind, Signer, TrustRoot, check_succession, check_trust_root, count_quorum, scheme_of
from keys.values import format_base64

LOG_KEY = bytes(PrivateKey(b"\xff" * 32).public.raw)


def private(number: int) -> PrivateKey:
    return PrivateKey(number.to_bytes(32, "big"))


def line(number: int) -> str:
    return format_public(private(number).public)


def raw(number: int) -> bytes:
    return bytes(private(number).public.raw)


def token_line(number: int, application: bytes = b"ssh:") -> str:
    return format_public(parse_blob(Token(number.to_bytes(32, "big"), application).blob))


def principal(
    name: str, key: str, *roles: str, kind: str = "human", custodian: str = "", user_verification: bool = False
) -> dict[str, Any]:
    return {
        "id": name,
        "kind": kind,
        "custodian": custodian or name,
        "roles": sorted(roles),
        "keys": [{"key": key, "user_verification": user_verification}],
    }


def principals() -> list[dict[str, Any]]:
    return [
        principal("alice", line(1), "governor", "operator", "approver"),
        principal("bob", line(2), "governor", "approver"),
        principal("CP14", line(3), "sentinel", kind="agent"),
        principal("CP18", line(4), "validator", kind="agent"),
        principal("CBO", line(5), "proposer", kind="overseer"),
        principal("CP20", line(6), kind="executor"),
        principal("CP19", line(7), kind="monitor"),
    ]


def root(*more: dict[str, Any], governors: int = 1, operators: int = 1, **fields: Any) -> TrustRoot:
    value: dict[str, Any] = {
        "law": 1,
        "principals": [*principals(), *more],
        "thresholds": {"governors": governors, "operators": operators},
        "expires": "2030-01-01T00:00:00Z",
        "compromised": [],
    }
    return TrustRoot.from_json({**value, **fields})


def refused(candidate: TrustRoot) -> LawRefused:
    with pytest.raises(LawRefused) as caught:
        check_trust_root(candidate, LOG_KEY)
    assert caught.value.code == "bad_trust_root"
    return caught.value


def test_sound_root_is_accepted() -> None:
    sound = root(governors=2)
    check_trust_root(sound, LOG_KEY)
    holder = sound.find_key(fingerprint(private(3).public))
    assert holder is not None
    assert (holder.principal.id, holder.entry.public) == ("CP14", private(3).public)
    assert sound.find_key(fingerprint(private(99).public)) is None
    assert sound.find_principal("alice") is sound.principals[0]
    assert sound.find_principal("ALICE") is None
    assert TrustRoot.from_json(sound.to_json()) == sound


def test_one_human_may_govern_operate_and_approve() -> None:
    check_trust_root(root(principals=principals()[:1]), LOG_KEY)


def test_two_ids_that_differ_by_case_are_one() -> None:
    assert "alice" in refused(root(principal("ALICE", line(20)))).message.lower()


def test_one_raw_key_under_two_principals_is_refused() -> None:
    assert "stands twice" in refused(root(principal("mallory", line(1), "approver"))).message


def test_one_raw_key_under_two_labels_is_refused() -> None:
    # The same 32 bytes as a plain key and as a token's, and as a token's for two applications.
    refused(root(principal("mallory", token_line(1), "approver")))
    both = principal("mallory", token_line(20), "approver")
    both["keys"].append({"key": token_line(20, b"ssh:other"), "user_verification": False})
    refused(root(both))
    again = principal("mallory", line(21), "approver")
    again["keys"].append({"key": token_line(21), "user_verification": False})
    refused(root(again))


def test_log_key_is_held_by_no_principal() -> None:
    log_line = format_public(PrivateKey(b"\xff" * 32).public)
    assert "the log" in refused(root(principal("mallory", log_line, "approver"))).message


def test_log_key_is_judged_too() -> None:
    with pytest.raises(SignatureRefused) as caught:
        check_trust_root(root(), b"\x01" + bytes(31))
    assert caught.value.code == "bad_key"


@pytest.mark.parametrize("kind", ["agent", "overseer", "executor", "monitor"])
@pytest.mark.parametrize("role", ["governor", "operator", "approver"])
def test_machine_holds_no_human_role(kind: str, role: str) -> None:
    assert role in refused(root(principal("machine", line(20), role, kind=kind))).message


@pytest.mark.parametrize("kind", ["human", "overseer", "executor", "monitor"])
@pytest.mark.parametrize("role", ["sentinel", "validator"])
def test_only_an_agent_is_sentinel_or_validator(kind: str, role: str) -> None:
    assert role in refused(root(principal("other", line(20), role, kind=kind))).message


@pytest.mark.parametrize("kind", ["agent", "overseer", "executor", "monitor"])
def test_machine_key_is_plain(kind: str) -> None:
    assert "plain" in refused(root(principal("machine", token_line(20), kind=kind))).message


def test_user_verification_is_not_asked_of_a_key_that_cannot() -> None:
    refused(root(principal("carol", line(20), "approver", user_verification=True)))
    check_trust_root(root(principal("carol", token_line(20), "approver", user_verification=True)), LOG_KEY)


@pytest.mark.parametrize("thresholds", [{"governors": 3}, {"operators": 2}, {"governors": 1000}])
def test_root_that_cannot_meet_its_own_threshold_is_refused(thresholds: dict[str, int]) -> None:
    assert "needed" in refused(root(**thresholds)).message


def test_threshold_is_not_met_by_one_custodian_twice() -> None:
    shared = principal("alice-recovery", line(20), "governor", custodian="alice")
    refused(root(shared, governors=3))
    check_trust_root(root(shared, governors=2), LOG_KEY)


def test_threshold_is_not_met_by_one_principal_with_two_keys() -> None:
    members = principals()
    members[0]["keys"].append({"key": line(20), "user_verification": False})
    refused(root(principals=members, governors=3))


def test_compromised_key_is_no_longer_held() -> None:
    assert "still held" in refused(root(compromised=[{"key": line(3), "position": 9}])).message
    # Under another label it is the same key.
    assert "still held" in refused(root(compromised=[{"key": token_line(3), "position": 9}])).message
    check_trust_root(root(compromised=[{"key": line(30), "position": 9}]), LOG_KEY)


def test_compromised_key_stands_once() -> None:
    twice = [{"key": line(30), "position": 9}, {"key": token_line(30), "position": 4}]
    assert "twice" in refused(root(compromised=twice)).message


@pytest.mark.parametrize(
    "change",
    [
        {"law": 2},
        {"law": True},
        {"law": 1.0},
        {"law": "1"},
        {"thresholds": {"governors": 0, "operators": 1}},
        {"thresholds": {"governors": 1, "operators": True}},
        {"thresholds": {"governors": 1}},
        {"thresholds": {"governors": 1, "operators": 1, "approvers": 1}},
        {"expires": "2030-01-01T00:00:00+00:00"},
        {"expires": "2030-02-30T00:00:00Z"},
        {"extra": None},
        {"compromised": None},
        {"compromised": [{"key": line(30), "position": -1}]},
        {"principals": [principal("a b", line(1))]},
        {"principals": [principal("alice", line(1), kind="robot")]},
        {"principals": [principal("alice", line(1), "king")]},
        {"principals": [principal("alice", line(1) + " comment")]},
        {"principals": [principal("alice", line(1) + "\n")]},
        {"principals": [principal("alice", "ssh-ed25519 AAAA")]},
        {"principals": [{**principal("alice", line(1)), "roles": ["operator", "approver"]}]},
        {"principals": [{**principal("alice", line(1)), "roles": ["approver", "approver"]}]},
        {"principals": [{**principal("alice", line(1)), "keys": []}]},
        {"principals": [{**principal("alice", line(1)), "custodian": None}]},
    ],
)
def test_root_of_another_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        root(**change)


def test_key_that_is_no_point_of_the_group_is_refused() -> None:
    weak = b"\0\0\0\x0bssh-ed25519\0\0\0\x20\x01" + bytes(31)
    with pytest.raises(CalyxError, match="prime-order"):
        root(principal("mallory", "ssh-ed25519 " + format_base64(weak)))


def test_key_is_never_reassigned() -> None:
    old = root()
    moved = principals()
    moved[0]["keys"], moved[1]["keys"] = moved[1]["keys"], moved[0]["keys"]
    with pytest.raises(LawRefused, match="never reassigned"):
        check_succession(old, root(principals=moved), {})


def test_key_is_never_reassigned_after_a_pause() -> None:
    # The key left the root long ago; only history remembers whose it was.
    new = root(principal("mallory", line(40), "approver"))
    check_succession(root(), new, {})
    check_succession(root(), new, {raw(40).hex(): "mallory"})
    with pytest.raises(LawRefused, match="belonged to carol"):
        check_succession(root(), new, {raw(40).hex(): "carol"})
    relabelled = root(principal("mallory", token_line(40), "approver"))
    with pytest.raises(LawRefused, match="belonged to carol"):
        check_succession(root(), relabelled, {raw(40).hex(): "carol"})


def test_unchanged_root_may_follow_itself() -> None:
    check_succession(root(), root(), {raw(1).hex(): "alice", raw(3).hex(): "CP14"})


def test_compromise_is_never_taken_back() -> None:
    def compromised(*positions: int) -> TrustRoot:
        return root(compromised=[{"key": line(30), "position": position} for position in positions])

    check_succession(compromised(), compromised(9), {})
    check_succession(compromised(9), compromised(9), {})
    check_succession(compromised(9), compromised(4), {})
    for new in (compromised(), compromised(10)):
        with pytest.raises(LawRefused, match="taken back"):
            check_succession(compromised(9), new, {})


def test_cosignature_counted_twice_under_two_keys_or_custodians() -> None:
    members = principals()
    members[0]["keys"].append({"key": line(20), "user_verification": False})
    judged = root(principals=[*members, principal("carol", line(21), "governor", custodian="bob")])
    check_trust_root(judged, LOG_KEY)
    alice, alice_too = Signer("alice", raw(1)), Signer("alice", raw(20))
    bob, carol = Signer("bob", raw(2)), Signer("carol", raw(21))
    assert count_quorum(judged, "governor", []) == 0
    assert count_quorum(judged, "governor", [alice, alice, alice_too]) == 1
    assert count_quorum(judged, "governor", [bob, carol]) == 1
    assert count_quorum(judged, "governor", [alice_too, carol]) == 2
    assert count_quorum(judged, "governor", [alice, alice_too, bob, carol]) == 2


def test_signer_without_role_or_with_another_key_is_not_counted() -> None:
    judged = root()
    strangers = [Signer("CP14", raw(3)), Signer("alice", raw(2)), Signer("ALICE", raw(1)), Signer("zoe", raw(1))]
    assert count_quorum(judged, "governor", strangers) == 0
    assert count_quorum(judged, "operator", [Signer("bob", raw(2))]) == 0
    assert count_quorum(judged, "operator", [Signer("alice", raw(1))]) == 1


@pytest.mark.parametrize("kind", ["agent", "overseer", "executor", "monitor"])
def test_machines_sign_raw_and_humans_with_sshsig(kind: Kind) -> None:
    assert (scheme_of(kind), scheme_of("human")) == ("ed25519", "sshsig")
