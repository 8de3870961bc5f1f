"""A home on another machine whose host is honest, or lies in one of the ways that it can."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from refusal import refused
from remoting import ADDRESS, IMPATIENT, Lying, Pair, Remote, copy_of
from station import Clock, Station, fleet, new_station

from executor.commands.terminal import show_error
from executor.remote.frames import DATA, MAX_DATA, MESSAGE, Channel, ConnectionLost
from executor.remote.home import RemoteHome
from executor.remote.messages import MAX_PUT, MAX_PUTS
from executor.remote.reading import RemoteObjects
from executor.remote.server import Server
from keys.canonical import Json, format_json, parse_json
from keys.errors import CalyxError, Exit, Unavailable
from ledger.envelope import Envelope
from ledger.head import Head
from ledger.memory import HeadMemory
from ledger.objects import ObjectRef
from ledger.record import make_record, parse_record
from ledger.store import Tip
from ledger.verified import sign_statement
from policies.auditing.audit import audit
from policies.fleet import Fleet
from policies.submitter import Draft, Receipt, Submitter


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path / "station")


@pytest.fixture
def remote(station: Station) -> Remote:
    return Remote(station)


def deny(lease: tuple[str, str]) -> Draft:
    return Draft("objection", {"verb": "deny", "reason": "not today"}, lease)


class Submitting:
    """A submitter that appends and then says something else."""

    def __init__(self, true: Submitter, say: Callable[[list[Receipt]], list[Receipt]], *, append: bool = True) -> None:
        self.true = true
        self.say = say
        self.appends = append

    def sync(self) -> Any:
        return self.true.sync()

    def append(self, envelopes: Sequence[Any]) -> list[Receipt]:
        if self.appends:
            return self.say(self.true.append(envelopes))
        return self.say([])


def test_ledger_elsewhere_is_verified_here(station: Station, remote: Remote) -> None:
    with remote.home() as home:
        replay = home.open_replay()
        assert replay.sync().size == station.state.size
        assert replay.head == station.registrar.head
        assert replay.checkpoint == station.store.tip().checkpoint
        assert home.open_store().leaf(0) == station.state.ledger


def test_statement_is_signed_here_and_appended_there(station: Station, remote: Remote) -> None:
    lease = station.propose()
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        receipt = submitter.submit(station.signer("ada"), deny(lease))
        assert submitter.state.leases[lease[1]].denied is not None
    assert station.state.history.find(receipt.digest) == receipt.seq == station.state.size - 1
    assert receipt.leaf == station.state.history.leaf(receipt.seq)
    assert receipt.time == station.clock.now


def test_new_entries_are_followed_on_one_connection(station: Station, remote: Remote) -> None:
    with remote.home() as home:
        replay = home.open_replay()
        replay.sync()
        station.propose()
        assert replay.sync().size == station.state.size
    assert len(remote.pairs) == 1


def test_whole_ledger_elsewhere_is_audited(station: Station, remote: Remote) -> None:
    station.begin(station.propose())
    with remote.home() as home:
        report = audit(home.open_store(), home.open_objects(), remembered=home.pin().load())
    assert report.ok and report.size == station.state.size


def test_many_records_come_in_batches(station: Station, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.remote.server.MAX_RECORDS", 2)
    with remote.home() as home:
        assert list(home.open_store().read()) == list(station.store.read())
        assert list(home.open_store().read(1, 2)) == list(station.store.read(1, 2))


def test_batch_ends_at_its_bytes(station: Station, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.remote.server.MAX_BATCH", 1)
    with remote.home() as home:
        assert list(home.open_store().read()) == list(station.store.read())


def test_another_ledger_with_the_same_origin_is_contradicted(station: Station, remote: Remote, tmp_path: Path) -> None:
    other = new_station(tmp_path / "other", clock=Clock(station.clock.now + 1))
    assert other.state.origin == station.state.origin
    with remote.home() as home:
        home.open_replay().sync()
    remote.serve = remote.honest(other.root)
    with remote.home() as home, refused("head_contradicted"):
        home.open_replay().sync()


def test_shortened_ledger_is_contradicted(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    with remote.home() as home:
        home.open_replay().sync()
    remote.serve = remote.honest(before)
    with remote.home() as home, refused("head_contradicted"):
        home.open_replay().sync()


def test_ledger_that_shrinks_while_it_is_followed_is_contradicted(
    station: Station, remote: Remote, tmp_path: Path
) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    with remote.home() as home:
        replay = home.open_replay()
        replay.sync()
        home._client.close()
        remote.serve = remote.honest(before)
        with refused("head_contradicted"):
            replay.sync()


def test_forked_ledger_is_contradicted(station: Station, remote: Remote, tmp_path: Path) -> None:
    fork = Station(tmp_path / "fork")
    fork.genesis()
    fork.enact_fleet()
    assert fork.state.ledger == station.state.ledger
    station.propose("LEASE-20260105-090001")
    fork.propose("LEASE-20260105-090002")
    fork.propose("LEASE-20260105-090003")
    with remote.home() as home:
        home.open_replay().sync()
    remote.serve = remote.honest(fork.root)
    with remote.home() as home, refused("head_contradicted"):
        home.open_replay().sync()
    # Nothing was signed on the way.
    with remote.home() as home, refused("head_contradicted"):
        remote.open_registrar(home).submit(station.signer("ada"), deny(("x", "0" * 64)))


def test_host_that_pretends_to_catch_up_is_contradicted(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    with remote.home() as home:
        home.open_replay().sync()

    class Promising(Lying):
        """Shows the end of an older ledger, and whenever it is asked again says that more is about to come."""

        asked = 0

        def tip(self) -> Tip:
            Promising.asked += 1
            tip = self.true.tip()
            return tip if Promising.asked % 2 else Tip(Head(tip.head.size + 9, "e" * 64), tip.checkpoint)

    remote.serve = remote.honest(before, reader_of=Promising)
    with remote.home() as home:
        replay = home.open_replay()
        for _ in range(6):
            with pytest.raises(CalyxError) as caught:
                replay.sync()
            assert caught.value.code in {"head_contradicted", "tip_mismatch"}


def test_contradiction_is_not_forgotten_by_asking_again(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    with remote.home() as home:
        home.open_replay().sync()
    remote.serve = remote.honest(before)
    with remote.home() as home:
        replay = home.open_replay()
        for _ in range(3):
            with refused("head_contradicted"):
                replay.sync()


def test_address_in_another_spelling_has_the_same_memory(station: Station, remote: Remote, tmp_path: Path) -> None:
    before = copy_of(station, tmp_path / "copy")
    station.propose()
    with remote.home() as home:
        home.open_replay().sync()
    remote.serve = remote.honest(before)
    for spelling in (ADDRESS.replace("station", "STATION"), f"{ADDRESS}/"):
        with remote.home(spelling) as home, refused("head_contradicted"):
            home.open_replay().sync()


def test_changed_record_is_named(station: Station, remote: Remote) -> None:
    class Changing(Lying):
        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            for seq, data in enumerate(self.true.read(start, stop), start):
                yield data.replace(b'"time":"2026', b'"time":"2025') if seq == 1 else data

    remote.serve = remote.honest(reader_of=Changing)
    with remote.home() as home, refused("broken_chain", entry=1):
        home.open_replay().sync()


def test_history_rewritten_with_the_log_key_contradicts_its_signatures(station: Station, remote: Remote) -> None:
    # The host has the log key, so it can chain and sign anything; it has no principal's key.
    records = [parse_record(data) for data in station.store.read()]
    forged = records[:1]
    for record in records[1:]:
        body = record.envelope.body.replace(b"a test", b"a lie!")
        envelope = type(record.envelope)(body, record.envelope.keyid, record.envelope.sig)
        forged.append(make_record(len(forged), forged[-1].leaf, record.seconds, envelope))

    class Rewriting(Lying):
        def tip(self) -> Tip:
            from ledger.merkle import Frontier

            frontier = Frontier()
            for record in forged:
                frontier.append(bytes.fromhex(record.leaf))
            note = station.log_key.sign(len(forged), frontier.root())
            return Tip(Head(len(forged), forged[-1].leaf), note)

        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            return (record.data for record in forged[start:stop])

    remote.serve = remote.honest(reader_of=Rewriting)
    with remote.home() as home, refused("unlawful_entry", entry=1):
        home.open_replay().sync()


def test_head_that_its_records_do_not_have_is_refused(station: Station, remote: Remote) -> None:
    class Pretending(Lying):
        def tip(self) -> Tip:
            tip = self.true.tip()
            return Tip(Head(tip.head.size, "f" * 64), tip.checkpoint)

    remote.serve = remote.honest(reader_of=Pretending)
    with remote.home() as home, refused("tip_mismatch"):
        home.open_replay().sync()


def test_checkpoint_of_another_key_is_refused(station: Station, remote: Remote, tmp_path: Path) -> None:
    other = Station(tmp_path / "other", seed=2)

    class Resigning(Lying):
        def tip(self) -> Tip:
            tip = self.true.tip()
            return Tip(tip.head, other.log_key.sign(tip.head.size, bytes(32)))

    remote.serve = remote.honest(reader_of=Resigning)
    with remote.home() as home, pytest.raises(CalyxError):
        home.open_replay().sync()


def test_withheld_records_are_missed(station: Station, remote: Remote) -> None:
    class Withholding(Lying):
        def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
            return iter(list(self.true.read(start, stop))[:1]) if not start else iter(())

    remote.serve = remote.honest(reader_of=Withholding)
    with remote.home() as home, refused("broken_chain", reason="missing"):
        home.open_replay().sync()


def test_object_with_other_bytes_is_refused(station: Station, remote: Remote) -> None:
    good = station.objects.put(b"content")

    def lying(channel: Channel) -> None:
        desk = remote.honest()
        # The true store would see it; this one hands out whatever it has.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ledger.objects.DirectoryObjects.stream", lambda self, ref: iter([b"c0ntent"]))
            desk(channel)

    remote.serve = lying
    with remote.home() as home:
        objects = home.open_objects()
        for wrong in (objects.get, objects.check, lambda ref: objects.copy_to(ref, station.root / "copied")):
            with refused("object_mismatch", object=good.sha256):
                wrong(good)
    assert not (station.root / "copied").exists()


def test_object_that_is_damaged_there_is_refused_after_its_chunks(
    station: Station, remote: Remote, tmp_path: Path
) -> None:
    ref = station.objects.put(os.urandom(MAX_DATA * 2))
    path = station.root / "objects" / ref.sha256[:2] / ref.sha256[2:]
    path.chmod(0o600)
    path.write_bytes(bytes(ref.size))
    with remote.home() as home:
        objects = home.open_objects()
        with refused("object_mismatch") as caught:
            objects.copy_to(ref, tmp_path / "copied")
        assert caught.value.message.startswith("the host says: ")
        assert not (tmp_path / "copied").exists()
        # The connection is at the beginning of an answer again.
        assert home.open_replay().sync().size == station.state.size
    assert len(remote.pairs) == 1


def test_answer_that_cannot_be_kept_here_is_not_read_on(
    station: Station, remote: Remote, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = station.objects.put(os.urandom(MAX_DATA * 4))
    with remote.home() as home:
        objects = home.open_objects()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr("executor.remote.reading.sha256", lambda *_: type("Full", (), {"update": full})())
            with refused("file_write_failed"):
                objects.copy_to(ref, tmp_path / "copied")
        assert home.open_replay().sync().size == station.state.size
    assert len(remote.pairs) == 2


def test_host_that_takes_no_statements_says_so_before_one_is_signed(station: Station, remote: Remote) -> None:
    remote.serve = remote.honest(registrars=False)
    with remote.home() as home, refused("read_only"):
        remote.open_registrar(home).sync()


def test_objects_of_a_home_elsewhere(station: Station, remote: Remote, tmp_path: Path) -> None:
    large = os.urandom(MAX_DATA * 3 + 7)
    ref = station.objects.put(large)
    with remote.home() as home:
        objects = home.open_objects()
        assert objects.get(ref) == large == objects.get(ref)
        assert objects.find(ref.sha256) == ref and objects.has(ref)
        assert objects.find("0" * 64) is None
        objects.check(ref)
        objects.copy_to(ref, tmp_path / "copied")
        assert (tmp_path / "copied").read_bytes() == large
        with refused("object_missing"):
            objects.get(ObjectRef(sha256="0" * 64, size=3))
        with refused("object_mismatch"):
            objects.get(ObjectRef(sha256=ref.sha256, size=3))
        assert objects.get(station.objects.put(b"")) == b""


def test_object_is_asked_for_once(station: Station, remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = station.objects.put(b"content")
    with remote.home() as home:
        objects = home.open_objects()
        assert objects.get(ref) == b"content"
        remote.serve = lambda channel: None
        home._client.close()
        assert objects.get(ref) == b"content"
        monkeypatch.setattr("executor.remote.reading.MAX_KEPT", 28)
        assert isinstance(objects, RemoteObjects)
        for n in range(9):
            objects._keep(ObjectRef(sha256=f"{n}" * 64, size=7), b"1234567")
        assert sum(each.size for each in objects._kept) <= 28


def propose_fleet(station: Station, submitter: Submitter, home: RemoteHome, body: bytes) -> Receipt:
    fields = {
        "base": station.state.fleet_digest,
        "reason": "a test",
        "approve_by": station.after(3600),
        "fleet": home.open_objects().put(body).to_json(),
    }
    return submitter.submit(station.signer("ada"), Draft("fleet", fields))


def test_object_that_a_signed_statement_names_is_kept(station: Station, remote: Remote) -> None:
    body = Fleet.from_json(fleet(3)).canonical()
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        receipt = propose_fleet(station, submitter, home, body)
    assert station.state.history.find(receipt.digest) == receipt.seq
    assert station.objects.get(ObjectRef(sha256=sha256(body).hexdigest(), size=len(body))) == body


@pytest.mark.parametrize("ends", ["clean", "silent"])
def test_object_that_was_brought_outlives_its_connection(station: Station, remote: Remote, ends: str) -> None:
    """A person looks at a proposal for an hour, and the line is gone by then."""
    body = Fleet.from_json(fleet(3)).canonical()
    fields = {"base": station.state.fleet_digest, "reason": "a test", "approve_by": station.after(3600)}
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        ref = home.open_objects().put(body)
        if ends == "clean":
            home._client.close()
        else:
            remote.pairs[-1]._ours.shutdown(socket.SHUT_RDWR)
        receipt = submitter.submit(station.signer("ada"), Draft("fleet", {**fields, "fleet": ref.to_json()}))
        assert home._client._brought == []
    assert len(remote.pairs) == 2
    assert station.state.history.find(receipt.digest) == receipt.seq
    assert station.objects.get(ref) == body


def test_largest_object_that_may_be_brought_is_read_here_before_the_host_has_it(remote: Remote) -> None:
    with remote.home() as home:
        data = bytes(MAX_PUT)
        objects = home.open_objects()
        assert objects.get(objects.put(data)) == data


def test_object_that_no_signed_statement_names_is_not_kept(station: Station, remote: Remote) -> None:
    lease = station.propose()
    ref = ObjectRef(sha256=sha256(b"rubbish").hexdigest(), size=7)
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        home.open_objects().put(b"rubbish")
        submitter.submit(station.signer("ada"), deny(lease))
    assert not station.objects.has(ref)


def test_object_named_by_a_strangers_statement_is_not_kept(station: Station, remote: Remote) -> None:
    stranger = Station(station.root / "stranger", seed=9)
    body = Fleet.from_json(fleet(3)).canonical()
    fields = {
        "base": station.state.fleet_digest,
        "reason": "let me in",
        "approve_by": station.after(3600),
        "fleet": {"sha256": sha256(body).hexdigest(), "size": len(body)},
    }
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        home.open_objects().put(body)
        with refused("unknown_key"):
            submitter.submit(stranger.signer("ada"), Draft("fleet", fields))
    assert not station.objects.has(ObjectRef(sha256=sha256(body).hexdigest(), size=len(body)))


def test_object_named_by_a_forged_statement_is_not_kept(station: Station, remote: Remote) -> None:
    """Whoever merely connects knows each enrolled key id, and must not fill the disk with that."""
    body = Fleet.from_json(fleet(3)).canonical()
    ref = ObjectRef(sha256=sha256(body).hexdigest(), size=len(body))
    fields = {"base": station.state.fleet_digest, "reason": "let me in", "approve_by": station.after(3600)}
    asked = station.sign("ada", Draft("fleet", {**fields, "fleet": ref.to_json()}))
    other = station.sign("ada", deny(station.propose()))
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        home.open_objects().put(body)
        with refused("bad_signature"):
            submitter.append([Envelope(asked.body, asked.keyid, other.sig)])
    assert not station.objects.has(ref)


def test_object_over_the_limit_is_not_brought(station: Station, remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(MAX_PUT + 1))
    with remote.home() as home:
        with refused("too_large"):
            home.open_objects().put_file(tmp_path / "large")
        assert home.open_objects().put_file(Path(__file__)).size == Path(__file__).stat().st_size
        with refused("too_large"):
            home.open_objects().put(bytes(MAX_PUT))
    assert len(remote.pairs) == 1


@pytest.mark.parametrize(
    "lie",
    [
        lambda receipts: [Receipt(r.seq + 1, r.digest, r.leaf, r.time) for r in receipts],
        lambda receipts: [Receipt(r.seq, "0" * 64, r.leaf, r.time) for r in receipts],
        lambda receipts: [Receipt(r.seq, r.digest, "0" * 64, r.time) for r in receipts],
        lambda receipts: [Receipt(r.seq, r.digest, r.leaf, r.time + 1) for r in receipts],
        lambda receipts: [],
        lambda receipts: receipts * 2,
    ],
    ids=["seq", "digest", "leaf", "time", "none", "twice"],
)
def test_receipt_that_differs_from_the_ledger_is_false(
    station: Station, remote: Remote, lie: Callable[[list[Receipt]], list[Receipt]]
) -> None:
    lease = station.propose()
    remote.serve = remote.honest(submitter_of=lambda true: Submitting(true, lie))
    with remote.home() as home, refused("receipt_false"):
        remote.open_registrar(home).submit(station.signer("ada"), deny(lease))


def test_receipt_for_an_entry_that_is_not_there_is_false(station: Station, remote: Remote) -> None:
    lease = station.propose()
    size = station.state.size
    invented = Receipt(size, "1" * 64, "2" * 64, station.clock.now)
    remote.serve = remote.honest(submitter_of=lambda true: Submitting(true, lambda _: [invented], append=False))
    with remote.home() as home, refused("receipt_false"):
        remote.open_registrar(home).submit(station.signer("ada"), deny(lease))
    assert station.state.size == size


def test_what_is_signed_names_the_head_that_was_verified_here(station: Station, remote: Remote) -> None:
    lease = station.propose()
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        verified = submitter.head
        statement = submitter.draft_statement("ada", deny(lease), machine=False)
    assert statement.head == verified == station.registrar.head
    assert statement.ledger == station.state.ledger


def test_refusal_of_the_host_keeps_code_and_exit(station: Station, remote: Remote) -> None:
    with remote.home() as home, refused("unknown_subject") as caught:
        remote.open_registrar(home).submit(station.signer("ada"), deny(("LEASE-20260105-090009", "0" * 64)))
    assert caught.value.exit_code == Exit.REFUSED
    assert caught.value.message.startswith("the host says: ")
    with remote.home() as home:
        remote.serve = remote.honest(registrars=False)
        with refused("read_only") as caught:
            remote.open_registrar(home).submit(station.signer("ada"), deny(("LEASE-1", "0" * 64)))
    assert caught.value.exit_code == Exit.REFUSED


def test_clock_of_the_host_is_doubted_unless_the_person_accepts_it(station: Station, remote: Remote) -> None:
    lease = station.propose()
    station.clock.now -= 3600
    with remote.home() as home:
        with refused("clock_suspect") as caught:
            home.open_registrar(station.clock).submit(station.signer("ada"), deny(lease))
        assert caught.value.exit_code == Exit.UNAVAILABLE
        home.open_registrar(station.clock, accept_clock=True).submit(station.signer("ada"), deny(lease))


def test_lost_answer_is_asked_for_again_and_gives_the_same_entry(station: Station, remote: Remote) -> None:
    lease = station.propose()

    def die(receipts: list[Receipt]) -> list[Receipt]:
        # It is committed, and nobody hears of it.
        remote.serve = remote.honest()
        raise ConnectionLost("killed")

    remote.serve = remote.honest(submitter_of=lambda true: Submitting(true, die))
    size = station.state.size
    with remote.home() as home:
        receipt = remote.open_registrar(home).submit(station.signer("ada"), deny(lease))
    assert receipt.seq == size
    assert station.state.size == size + 1
    assert len(remote.pairs) == 2


def test_host_that_never_answers_a_submission_leaves_it_open(station: Station, remote: Remote) -> None:
    lease = station.propose()
    size = station.state.size

    def die(receipts: list[Receipt]) -> list[Receipt]:
        raise ConnectionLost("killed")

    remote.serve = remote.honest(submitter_of=lambda true: Submitting(true, die, append=False))
    with remote.home() as home, refused("answer_lost") as caught:
        remote.open_registrar(home).submit(station.signer("ada"), deny(lease))
    assert "not in the ledger now, and may still come" in caught.value.message
    assert station.state.size == size


def test_answer_that_cannot_be_verified_is_not_believed(station: Station, remote: Remote) -> None:
    lease = station.propose()

    def vanish(receipts: list[Receipt]) -> list[Receipt]:
        remote.serve = lambda channel: None
        return receipts

    class Once(Lying):
        asked = 0

        def tip(self) -> Tip:
            Once.asked += 1
            if Once.asked > 2:
                raise ConnectionLost("killed")
            return super().tip()

    remote.serve = remote.honest(submitter_of=lambda true: Submitting(true, vanish), reader_of=Once)
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        with refused("answer_lost"):
            submitter.submit(station.signer("ada"), deny(lease))


def test_entry_that_a_host_appended_and_then_refuses_to_show_is_left_open(station: Station, remote: Remote) -> None:
    lease = station.propose()

    class Refusing(Lying):
        asked = 0

        def tip(self) -> Tip:
            Refusing.asked += 1
            if Refusing.asked > 2:
                raise CalyxError("ledger_corrupt", "it is not whole")
            return super().tip()

    remote.serve = remote.honest(reader_of=Refusing)
    size = station.state.size
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        with refused("answer_lost"):
            submitter.submit(station.signer("ada"), deny(lease))
    assert station.store.head().size == size + 1


def test_same_envelope_twice_is_one_entry(station: Station, remote: Remote) -> None:
    lease = station.propose()
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        statement = submitter.draft_statement("ada", deny(lease), machine=False)
        envelope = sign_statement(statement, station.signer("ada"))
        assert submitter.append([envelope]) == submitter.append([envelope])


def test_machine_that_lost_the_race_says_it_again(station: Station, remote: Remote) -> None:
    # A term names the whole ledger; another entry comes between its signature and its submission.
    with remote.home() as home:
        submitter = remote.open_registrar(home)
        submitter.sync()
        appended: list[tuple[str, str]] = []

        class Slow:
            principal, kind, keyid = "cp20", "executor", station.signer("cp20").keyid

            def sign(self, message: bytes, namespace: str) -> bytes:
                if not appended:
                    appended.append(station.propose())
                return station.signer("cp20").sign(message, namespace)

        receipt = submitter.submit(Slow(), Draft("term", {"epoch": 1, "reason": "start"}))
    assert station.state.term is not None and station.state.history.find(receipt.digest) is not None


def test_keys_and_settings_stay_on_this_machine(station: Station, remote: Remote, tmp_path: Path) -> None:
    with remote.home() as home:
        assert home.load_settings().me is None
        home.settings.parent.mkdir(parents=True)
        home.settings.write_bytes(format_json({"version": 1, "me": "ada", "keys": {"ada": str(tmp_path / "key")}}))
        assert home.find_me(station.state).id == "ada"
        assert home.find_key("ada") == tmp_path / "key"
        assert home.find_key("cp20") is None
        assert home.running(["cp20"]) is None
        assert home.name == ADDRESS


@pytest.mark.parametrize("what", ["root", "ledger", "keys", "log_key", "run"])
def test_directory_of_a_home_elsewhere_is_not_here(remote: Remote, what: str) -> None:
    with remote.home() as home, refused("home_not_here") as caught:
        getattr(home, what)
    assert caught.value.exit_code == Exit.USAGE and ADDRESS in caught.value.message


def test_ledger_elsewhere_is_not_founded_from_here(remote: Remote) -> None:
    with remote.home() as home, refused("home_not_here"):
        home.open_registrar(create=True)
    with remote.home() as home, refused("home_not_here"):
        home.make()


# What a hostile server may send in place of an answer. The first answer is the one to hello.

HELLO = format_json({"ok": {"protocol": 1}})


def frame(kind: bytes, payload: bytes, size: int | None = None) -> bytes:
    return kind + (len(payload) if size is None else size).to_bytes(4, "big") + payload


def saying(*answers: bytes) -> Callable[[Channel], None]:
    """A server that answers its requests with these bytes, and then ends."""

    def serve(channel: Channel) -> None:
        for answer in (frame(MESSAGE, HELLO), *answers):
            channel.receive(channel.begin(60))
            channel._out += answer
            channel.flush(channel.begin(60))

    return serve


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connection_lost"),
        (b"M\0\0", "connection_lost"),
        (frame(MESSAGE, b"{}", 20), "connection_lost"),
        (frame(b"X", b"{}"), "bad_answer"),
        (b"Welcome to station.example\n", "bad_answer"),
        (frame(MESSAGE, b"", 65_536), "bad_answer"),
        (frame(DATA, b"", MAX_DATA + 1), "bad_answer"),
        (frame(DATA, b""), "bad_answer"),
        (frame(DATA, b"x"), "bad_answer"),
        (frame(MESSAGE, b"{"), "bad_answer"),
        (frame(MESSAGE, b"{} "), "bad_answer"),
        (frame(MESSAGE, b"[]"), "bad_answer"),
        (frame(MESSAGE, b'{"ok":{}}'), "bad_answer"),
        (frame(MESSAGE, b"[" * 1000), "bad_answer"),
        (frame(MESSAGE, format_json({"ok": {"size": 0, "hash": "f" * 64, "checkpoint": ""}})), "bad_answer"),
        (frame(MESSAGE, format_json({"ok": {"size": 9, "hash": "f" * 64, "checkpoint": ""}})), "bad_answer"),
        (frame(MESSAGE, format_json({"error": {"code": "x"}})), "bad_answer"),
        (frame(MESSAGE, format_json({"error": {}, "ok": {}})), "bad_answer"),
    ],
)
def test_answer_that_is_none_ends_in_one_line(remote: Remote, answer: bytes, code: str) -> None:
    remote.serve = saying(answer)
    with remote.home() as home, refused(code) as caught:
        home.open_replay().sync()
    assert caught.value.exit_code == Exit.UNAVAILABLE


@pytest.mark.parametrize("greeting", [b"", b"Last login: Monday\n", frame(MESSAGE, b'{"ok":{"protocol":2}}')])
def test_host_without_calyx_is_said_to_have_none(remote: Remote, greeting: bytes) -> None:
    def serve(channel: Channel) -> None:
        channel.receive(channel.begin(60))
        channel._out += greeting
        channel.flush(channel.begin(60))

    remote.serve = serve
    with remote.home() as home, pytest.raises(Unavailable) as caught:
        home.open_replay().sync()
    assert caught.value.code in {"connection_lost", "bad_answer"}
    assert len(remote.pairs) == 1


def test_host_that_hangs_is_left(station: Station) -> None:
    remote = Remote(station, IMPATIENT)

    def hang(channel: Channel) -> None:
        saying()(channel)
        with pytest.raises(ConnectionLost):
            while True:
                channel.receive(channel.begin(60))

    remote.serve = hang
    with remote.home() as home, refused("peer_silent") as caught:
        home.open_replay().sync()
    assert caught.value.exit_code == Exit.UNAVAILABLE


def test_host_that_floods_is_left(station: Station, remote: Remote) -> None:
    tip = station.store.tip()
    said: Json = {"size": tip.head.size, "hash": tip.head.hash, "checkpoint": tip.checkpoint.decode()}

    def flood(channel: Channel) -> None:
        saying(frame(MESSAGE, format_json({"ok": said})))(channel)
        channel.receive(channel.begin(60))
        with pytest.raises(ConnectionLost):
            while True:
                channel.send(DATA, b"x", channel.begin(60))

    remote.serve = flood
    with remote.home() as home, refused("bad_answer"):
        home.open_replay().sync()
    assert not remote.pairs[0].failed


def test_more_of_an_object_than_was_asked_for_is_not_taken(station: Station, remote: Remote) -> None:
    ref = ObjectRef(sha256="0" * 64, size=3)
    remote.serve = saying(frame(DATA, b"four"))
    with remote.home() as home, refused("bad_answer"):
        home.open_objects().get(ref)
    remote.serve = saying(frame(DATA, b"a") + frame(DATA, b"b"))
    with remote.home() as home, refused("bad_answer"):
        home.open_objects().get(ref)


def test_text_of_the_host_is_shown_escaped(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    said: Json = {
        "code": "no",
        "message": "\x1b[2J\x1b[HApproved: entry 7\n\u202e",
        "hint": "\x9b31m press \r enter",
        "exit": 1,
        "fields": {"rule": "\x07bell", "entry": 3, "self": 1, "code": 2, "message": "x", "hint": None},
    }
    remote.serve = saying(frame(MESSAGE, format_json({"error": said})))
    with remote.home() as home, refused("no") as caught:
        home.open_replay().sync()
    show_error(caught.value)
    shown = capsys.readouterr().err
    assert shown.isascii() and "\x1b" not in shown and "\r" not in shown and "\x07" not in shown
    assert shown.count("\n") == 2
    assert "the host says: <U+001B>[2J" in shown


@pytest.mark.parametrize("exit_code", [0, 3, 4, 6, 255, True])
def test_host_cannot_choose_an_exit_code_that_means_something_else(remote: Remote, exit_code: int) -> None:
    said: Json = {"code": "no", "message": "", "hint": "", "exit": exit_code, "fields": {}}
    remote.serve = saying(frame(MESSAGE, format_json({"error": said})))
    with remote.home() as home, refused("bad_answer"):
        home.open_replay().sync()


# What a hostile client may send.


def ask(remote: Remote, *requests: bytes) -> list[Any]:
    """The answers to raw frames; None once the server has ended."""
    pair = Pair(remote.serve)
    answers: list[Any] = []
    for request in requests:
        try:
            pair.channel._out += request
            pair.channel.flush(pair.channel.begin(60))
            answers.append(parse_json(pair.channel.receive(pair.channel.begin(60)).payload))
        except ConnectionLost:
            answers.append(None)
    pair.close()
    assert not pair.failed
    return answers


def message(**request: Any) -> bytes:
    return frame(MESSAGE, format_json(request))


SAY_HELLO = message(verb="hello", protocol=1, submits=False)
TIP = message(verb="tip")


@pytest.mark.parametrize(
    ("requests", "code"),
    [
        ([TIP], "no_hello"),
        ([message(verb="hello", protocol=2, submits=False)], "unknown_protocol"),
        ([message(verb="hello", protocol=1)], "bad_format"),
        ([message(verb="run", command="rm")], "unknown_verb"),
        ([message(verb=["tip"])], "unknown_verb"),
        ([frame(MESSAGE, b'"tip"')], "unknown_verb"),
        ([SAY_HELLO, message(verb="tip", path="/etc")], "bad_format"),
        ([SAY_HELLO, frame(MESSAGE, b'{"verb": "tip"}')], "not_canonical"),
        ([SAY_HELLO, message(verb="get", sha256="../../etc", size=1)], "bad_format"),
        ([SAY_HELLO, message(verb="put", sha256="0" * 64, size=MAX_PUT + 1)], "bad_format"),
        ([SAY_HELLO, message(verb="submit", envelopes=0, accept_clock=False)], "bad_format"),
        ([SAY_HELLO, message(verb="submit", envelopes=17, accept_clock=False)], "bad_format"),
        ([SAY_HELLO, frame(DATA, b"x")], "bad_answer"),
        ([SAY_HELLO, frame(b"Z", b"x")], "bad_answer"),
        ([SAY_HELLO, frame(MESSAGE, b"", 70_000)], "bad_answer"),
        ([SAY_HELLO, message(verb="put", sha256="0" * 64, size=2) + frame(DATA, b"xyz")], "bad_answer"),
        ([SAY_HELLO, message(verb="put", sha256="0" * 64, size=2) + TIP], "bad_answer"),
        # In crumbs it would take a hundred times its size in the server's memory.
        ([SAY_HELLO, message(verb="put", sha256="0" * 64, size=2) + frame(DATA, b"x") * 2], "bad_answer"),
        ([SAY_HELLO, message(verb="put", sha256="0" * 64, size=MAX_DATA + 1) + frame(DATA, b"x")], "bad_answer"),
        # A connection that said no hello keeps nothing, and nobody waits for its bytes.
        ([message(verb="put", sha256="0" * 64, size=MAX_PUT)], "no_hello"),
        (
            [SAY_HELLO, message(verb="submit", envelopes=1, accept_clock=False) + frame(DATA, bytes(65_536))],
            "bad_answer",
        ),
    ],
)
def test_request_that_is_none_ends_the_connection(remote: Remote, requests: list[bytes], code: str) -> None:
    answers = ask(remote, *requests, TIP)
    assert answers[-2]["error"]["code"] == code
    assert answers[-1] is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (message(verb="put", sha256="0" * 64, size=2) + frame(DATA, b"xy"), "object_mismatch"),
        (message(verb="get", sha256="0" * 64, size=2), "object_missing"),
        (message(verb="submit", envelopes=1, accept_clock=False) + frame(DATA, b"no envelope"), "bad_format"),
    ],
)
def test_request_that_is_refused_keeps_the_connection(remote: Remote, request_: bytes, code: str) -> None:
    answers = ask(remote, SAY_HELLO, request_, TIP)
    assert answers[1]["error"]["code"] == code
    assert "ok" in answers[2]


def test_objects_without_end_are_not_kept_in_memory(remote: Remote) -> None:
    def put(data: bytes) -> bytes:
        return message(verb="put", sha256=sha256(data).hexdigest(), size=len(data)) + frame(DATA, data)

    small = [put(number.to_bytes(2, "big")) for number in range(MAX_PUTS + 1)]
    answers = ask(remote, SAY_HELLO, *small, small[0], TIP)
    assert answers[1 : MAX_PUTS + 1] == [{"ok": {}}] * MAX_PUTS
    assert answers[MAX_PUTS + 1]["error"]["code"] == "too_many"
    assert answers[MAX_PUTS + 2] == {"ok": {}}
    assert "ok" in answers[-1]


def test_records_behind_the_end_are_none(station: Station, remote: Remote) -> None:
    answers = ask(
        remote,
        SAY_HELLO,
        message(verb="read", start=2**53 - 1, stop=2**53 - 1),
        message(verb="read", start=station.state.size, stop=2**53 - 1),
        message(verb="read", start=5, stop=1),
        message(verb="find", sha256="0" * 64),
        message(verb="close"),
        TIP,
    )
    assert answers[1:] == [*([{"ok": {"count": 0}}] * 3), {"ok": {"size": None}}, {"ok": {}}, None]


def test_client_that_ends_in_the_middle_is_logged(remote: Remote) -> None:
    pair = Pair(remote.serve)
    pair.channel._out += SAY_HELLO[:7]
    pair.channel.flush(pair.channel.begin(60))
    pair.close()
    assert not pair.failed
    assert remote.said == ["connection_lost: the connection ended in the middle of a frame"]


def test_client_that_is_silent_in_a_request_is_left(station: Station, remote: Remote) -> None:
    from remoting import StationDesk

    def serve(channel: Channel) -> None:
        Server(channel, StationDesk(station, station.root), remote.said.append, idle_s=0.1, frame_s=0.1).run()

    pair = Pair(serve)
    pair._thread.join(60)
    assert not pair._thread.is_alive()
    pair.close()
    assert remote.said and remote.said[0].startswith("peer_silent")


def test_server_without_a_log_key_reads(station: Station, remote: Remote) -> None:
    remote.serve = remote.honest(registrars=False)
    with remote.home() as home:
        assert home.open_replay().sync().size == station.state.size


def test_ledger_that_is_seen_for_the_first_time_is_said(station: Station, remote: Remote) -> None:
    for _ in range(2):
        with remote.home() as home:
            replay = home.open_replay()
            replay.sync()
            station.propose(f"LEASE-20260105-09000{len(remote.pairs)}")
            replay.sync()
    assert len(remote.told) == 1
    assert ADDRESS in remote.told[0] and station.state.ledger[:16] in remote.told[0]


def test_memory_of_a_remote_home_lies_in_the_users_state(station: Station, remote: Remote) -> None:
    with remote.home() as home:
        replay = home.open_replay()
        replay.sync()
    heads = Path(os.environ["XDG_STATE_HOME"]) / "calyx" / "heads"
    remembered = HeadMemory(heads).load(ADDRESS)
    assert remembered is not None and remembered.head == replay.head
