"""Attacks on an entry's place: whose it is, which ledger and prefix it names, and when it was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import structs
from pydantic import BaseModel
from refusal import refused
from station import Station, new_station

from keys.errors import CalyxError
from keys.openssh import new_private_key
from keys.plain import Plain
from keys.signer import FileSigner
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT, sign
from keys.values import ZERO_HASH, format_time
from ledger.envelope import Envelope, pae
from ledger.record import parse_record
from ledger.statement import make_statement, parse_statement
from ledger.verified import sign_statement
from policies.law.position import PREDICATES, SPELLED_OUT
from policies.submitter import Draft

INTENT = Draft("intent", {"id": "INT-20260105-001", "target": "web", "what": "a new version", "why": "a test"})
QUESTION = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "?"})


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


class Blob:
    """Signs with a chosen scheme and namespace, whatever is asked for."""

    def __init__(self, station: Station, name: str, namespace: str | None) -> None:
        self.principal = name
        self.keyid = station.signer(name).keyid
        self._key = station.keys[name]
        self._namespace = namespace

    def sign(self, pae: bytes, namespace: str) -> bytes:
        return self._key.sign_raw(pae) if self._namespace is None else sign(self._key, self._namespace, pae)


def test_statement_by_another_principal(station: Station) -> None:
    envelope = station.sign("cbo", INTENT, by="ada")
    with refused("unknown_key"):
        station.append(envelope)


def test_key_that_is_not_enrolled(station: Station) -> None:
    stranger = FileSigner("cbo", "overseer", new_private_key(station.random))
    with refused("unknown_key"):
        station.append(station.sign("cbo", INTENT, signer=stranger))


def test_key_id_of_the_right_key_over_a_strangers_signature(station: Station) -> None:
    stranger = FileSigner("cbo", "overseer", new_private_key(station.random))
    envelope = station.sign("cbo", INTENT, signer=stranger)
    with refused("bad_signature"):
        station.append(Envelope(envelope.body, station.signer("cbo").keyid, envelope.sig))


def test_body_changed_after_signing(station: Station) -> None:
    lease = station.propose()
    envelope = station.sign("ada", Draft("objection", {"verb": "withdraw", "reason": "no"}, lease))
    with refused("bad_signature"):
        station.append(Envelope(envelope.body.replace(b'"withdraw"', b'"deny"'), envelope.keyid, envelope.sig))


@pytest.mark.parametrize(
    ("name", "role", "namespace"),
    [
        ("ada", "approver", NAMESPACE_STATEMENT),
        ("ada", "approver", "git"),
        ("ada", "approver", None),
        ("cp14", "sentinel", NAMESPACE_APPROVAL),
    ],
)
def test_cosignature_in_another_scheme_or_namespace(
    station: Station, name: str, role: str, namespace: str | None
) -> None:
    lease = station.propose()
    draft = Draft("cosignature", {"role": role, "review": None}, lease)
    with pytest.raises(CalyxError) as caught:
        station.append(station.sign(name, draft, signer=Blob(station, name, namespace)))
    assert caught.value.code in {"bad_signature", "bad_format", "wrong_namespace"}
    assert not station.state.leases[lease[1]].ballot.votes


def test_approval_namespace_where_a_statement_is_due(station: Station) -> None:
    lease = station.propose()
    draft = Draft("objection", {"verb": "deny", "reason": "no"}, lease)
    with pytest.raises(CalyxError) as caught:
        station.append(station.sign("ada", draft, signer=Blob(station, "ada", NAMESPACE_APPROVAL)))
    assert caught.value.code in {"bad_signature", "wrong_namespace"}


def test_statement_of_another_ledger_replayed_here(tmp_path: Path, station: Station) -> None:
    (tmp_path / "other").mkdir()
    other = new_station(tmp_path / "other", seed=2)
    # The same keys are enrolled in both; only the ledger's identity tells them apart.
    other.keys = station.keys
    other_ledger = other.state.ledger
    assert other_ledger != station.state.ledger
    with refused("wrong_ledger"):
        station.append(station.sign("cbo", INTENT, ledger=other_ledger))


def test_head_of_another_history(station: Station) -> None:
    with refused("head_contradicted"):
        station.append(station.sign("cbo", INTENT, head={"size": 2, "hash": "ab" * 32}))


def test_head_that_is_longer_than_the_ledger(station: Station) -> None:
    head = station.registrar.head
    with refused("head_contradicted"):
        station.append(station.sign("cbo", INTENT, head={"size": head.size + 1, "hash": head.hash}))


def test_head_that_names_the_leaf_of_another_size(station: Station) -> None:
    head = station.registrar.head
    with refused("head_contradicted"):
        station.append(station.sign("cbo", INTENT, head={"size": head.size - 1, "hash": head.hash}))


def test_second_genesis(station: Station) -> None:
    record = parse_record(next(station.store.read(0, 1)))
    first = parse_statement(record.envelope.body)
    again = make_statement("genesis", {**first.predicate, "nonce": "ab" * 16})
    with refused("misplaced_genesis"):
        station.append(sign_statement(again, station.signer("ada")))


def test_other_statement_before_genesis(tmp_path: Path) -> None:
    station = Station(tmp_path)
    with pytest.raises(CalyxError):
        station.say("cbo", "intent", INTENT.fields)
    assert station.store.head().size == 0


def test_same_statement_twice_makes_one_entry(station: Station) -> None:
    envelope = station.sign("cbo", INTENT)
    first = station.append(envelope)
    station.say("ada", "message", QUESTION.fields)
    size = station.store.head().size
    assert station.append(envelope) == first
    assert station.store.head().size == size


def test_same_statement_twice_past_the_registrar(station: Station) -> None:
    envelope = station.sign("cbo", INTENT)
    station.append(envelope)
    seq = station.force(envelope)
    with refused("unlawful_entry", entry=seq, cause="repeated"):
        station.new_registrar().sync()


@pytest.mark.parametrize(("ahead", "lawful"), [(120, True), (121, False)])
@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_made_at_after_the_record(station: Station, who: str, ahead: int, lawful: bool) -> None:
    envelope = station.sign(who, QUESTION, made_at=format_time(station.clock.now + ahead))
    if lawful:
        station.append(envelope)
    else:
        with refused("clock_suspect"):
            station.append(envelope)


@pytest.mark.parametrize(("age", "lawful"), [(120, True), (121, False)])
def test_machines_statement_is_fresh(station: Station, age: int, lawful: bool) -> None:
    envelope = station.sign("cp14", QUESTION)
    station.clock.tick(age)
    if lawful:
        station.append(envelope)
    else:
        with refused("stale_statement"):
            station.append(envelope)


def test_human_may_sign_days_before(station: Station) -> None:
    envelope = station.sign("ada", QUESTION)
    station.clock.tick(3 * 86_400)
    station.append(envelope)


def test_machines_statement_older_than_its_head(station: Station) -> None:
    station.clock.tick(60)
    station.say("ada", "message", QUESTION.fields)
    with refused("clock_suspect"):
        station.append(station.sign("cp14", QUESTION, made_at=format_time(station.clock.now - 1)))


def test_machine_with_a_clock_behind_takes_the_heads_time(station: Station) -> None:
    station.clock.tick(4)
    station.say("ada", "message", QUESTION.fields)
    station.clock.tick(-4)
    receipt = station.say("cp14", "message", QUESTION.fields)
    assert receipt.time == station.clock.now + 4


@pytest.mark.parametrize(("lag", "lawful"), [(1024, True), (1025, False)])
def test_machines_head_lags(station: Station, lag: int, lawful: bool) -> None:
    envelope = station.sign("cp14", QUESTION)
    drafts = [Draft("message", {**QUESTION.fields, "text": str(n)}) for n in range(lag)]
    station.registrar.submit_all(station.signer("cbo"), drafts)
    if lawful:
        station.append(envelope)
    else:
        with refused("head_too_old"):
            station.append(envelope)


def test_subject_that_the_signer_had_not_seen(station: Station) -> None:
    head = station.registrar.head
    lease = station.propose()
    draft = Draft("cosignature", {"role": "approver", "review": None}, lease)
    seen = {"size": station.state.leases[lease[1]].seq, "hash": station.state.history.leaf(head.size)}
    with refused("head_too_old"):
        station.append(station.sign("ada", draft, head=seen))
    station.append(station.sign("ada", draft))


def test_subject_under_another_name(station: Station) -> None:
    first = station.propose()
    second = station.propose("LEASE-20260105-090001")
    with refused("unknown_subject"):
        station.vote("ada", (first[0], second[1]), "approver")
    with refused("unknown_subject"):
        station.vote("ada", (first[0].lower(), first[1]), "approver")


def test_answer_to_a_message_that_its_signer_had_not_seen(station: Station) -> None:
    before = station.registrar.head
    question = station.say("ada", "message", QUESTION.fields)
    answer = Draft("message", {"type": "answer", "to": "ada", "reply_to": question.digest, "text": "!"})
    with refused("unknown_subject"):
        station.append(station.sign("cp14", answer, head={"size": before.size, "hash": before.hash}))
    station.append(station.sign("cp14", answer))
    lease = station.propose()
    with refused("unknown_subject"):
        station.say("cp14", "message", {**answer.fields, "reply_to": lease[1]})


@pytest.mark.parametrize(("behind", "lawful"), [(5, True), (6, False)])
def test_clock_behind_the_last_record(station: Station, behind: int, lawful: bool) -> None:
    station.clock.tick(-behind)
    if lawful:
        receipt = station.say("ada", "message", QUESTION.fields)
        assert receipt.time == station.clock.now + behind
    else:
        with refused("clock_suspect"):
            station.say("ada", "message", QUESTION.fields)


@pytest.mark.parametrize(("ahead", "lawful"), [(30 * 86_400, True), (30 * 86_400 + 1, False)])
def test_clock_far_ahead_of_the_last_record(station: Station, ahead: int, lawful: bool) -> None:
    station.clock.tick(ahead)
    if lawful:
        station.say("ada", "message", QUESTION.fields)
    else:
        with refused("clock_suspect"):
            station.say("ada", "message", QUESTION.fields)


def test_field_that_is_unknown_missing_or_of_another_type(station: Station) -> None:
    for fields in (
        {**QUESTION.fields, "more": 1},
        {k: v for k, v in QUESTION.fields.items() if k != "to"},
        {**QUESTION.fields, "text": 1},
    ):
        with refused("bad_format"):
            station.say("ada", "message", fields)


def test_signature_over_other_bytes_than_the_envelopes(station: Station) -> None:
    envelope = station.sign("cbo", INTENT)
    other = station.sign("cbo", Draft("intent", {**INTENT.fields, "id": "INT-20260105-002"}))
    assert pae(envelope.body) != pae(other.body)
    with refused("bad_signature"):
        station.append(Envelope(envelope.body, envelope.keyid, other.sig))


def models_of(hint: Any) -> Iterator[type[BaseModel] | type[Plain]]:
    """The models that a type is made of, itself included."""
    if isinstance(hint, type) and issubclass(hint, BaseModel | Plain):
        yield hint
        for known in get_type_hints(hint, include_extras=True).values():
            yield from models_of(known)
        return
    for argument in get_args(hint):
        yield from models_of(argument)


def defaults_of(kind: str) -> set[str]:
    """The fields that a statement of a kind could leave out and still have its shape."""
    return {f"{model.__name__}.{name}" for model in models_of(PREDICATES[kind]) for name in optional_of(model)}


def optional_of(model: type[BaseModel] | type[Plain]) -> set[str]:
    """The fields of a model that may be left out."""
    if issubclass(model, Plain):
        return {field.name for field in structs.fields(model) if not field.required}
    return {name for name, field in model.model_fields.items() if not field.is_required()}


@pytest.mark.parametrize("kind", sorted(set(PREDICATES) - SPELLED_OUT))
def test_every_kind_states_every_field(kind: str) -> None:
    assert defaults_of(kind) == set()


def test_walk_over_the_models_finds_a_default() -> None:
    assert "Hooks.drain" in defaults_of("lease")
    assert "Halted" in {model.__name__ for model in models_of(PREDICATES["event"])}


@pytest.mark.parametrize("kind", ["trust", "policy", "fleet"])
def test_proposal_that_does_not_say_why(station: Station, kind: str) -> None:
    content = {"trust": station.trust(), "policy": station.policy, "fleet": {"sha256": "ab" * 32, "size": 1}}
    fields = {"base": ZERO_HASH, "approve_by": station.after(60), kind: content[kind]}
    with refused("bad_format"):
        station.say("ada", kind, fields)
