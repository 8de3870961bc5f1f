"""A big batch whose signatures another process checks is judged as one that is judged here, whatever that one does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from governing import revoke
from station import Station, new_station

from keys import ahead as ahead_module
from keys.ahead import Asked, SignaturesAhead
from keys.ed25519 import SigningKey
from keys.errors import CalyxError
from ledger import verified as verified_module
from ledger.envelope import Envelope
from policies import batch_ahead
from policies.pin import Pin
from policies.registrar import Registrar
from policies.replay import Replay
from policies.submitter import Draft

COUNT = 40
MESSAGE = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"})


@pytest.fixture(autouse=True)
def processes_for_small_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_ahead, "WORTH_AHEAD", 2)
    monkeypatch.setattr(batch_ahead, "WORTH_START", 0)


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


@pytest.fixture
def registrar(station: Station) -> Iterator[Registrar]:
    pin = Pin(station.memory, str(station.root))
    with Registrar(
        station.store, station.objects, station.log_key, pin, clock=station.clock, random=station.random, jobs=2
    ) as made:
        yield made


def batch(station: Station, count: int = COUNT) -> list[Envelope]:
    """Statements of a person and of a machine in turn."""
    return [station.sign(("ada", "cbo")[number % 2], MESSAGE) for number in range(count)]


def forged(envelope: Envelope) -> Envelope:
    return Envelope(envelope.body, envelope.keyid, SigningKey(b"\x07" * 32).sign(envelope.body))


def workers(registrar: Registrar) -> list[Any]:
    ahead = registrar._batch.ahead
    return [] if ahead is None else [worker._process for worker in ahead._workers]


def kill(registrar: Registrar) -> None:
    for process in workers(registrar):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def check_all(station: Station, entries: int) -> None:
    """An outsider reads it all."""
    replay = Replay(station.store, station.objects, None)
    assert replay.sync().size == entries


def test_batch_is_appended_with_signatures_checked_elsewhere(
    station: Station, registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = registrar.sync().size
    here: list[str] = []
    monkeypatch.setattr(verified_module, "check_signature", lambda scheme, *_: here.append(scheme))
    receipts = registrar.append(batch(station))
    assert [receipt.seq for receipt in receipts] == list(range(size, size + COUNT))
    (process,) = workers(registrar)
    # Those of people are checked here.
    assert here == ["sshsig"] * (COUNT // 2)
    # The same process, for as long as the registrar is there.
    registrar.append(batch(station))
    assert workers(registrar) == [process]
    check_all(station, size + 2 * COUNT)
    registrar.close()
    assert process.poll() is not None
    assert workers(registrar) == []


@pytest.mark.parametrize("at", [1, 3, COUNT // 2 + 1, COUNT - 1])
def test_forged_signature_in_a_batch_is_refused_and_nothing_appended(
    station: Station, registrar: Registrar, at: int
) -> None:
    size = registrar.sync().size
    envelopes = batch(station)
    envelopes[at] = forged(envelopes[at])
    for _ in range(2):
        with pytest.raises(CalyxError) as caught:
            registrar.append(envelopes)
        assert caught.value.code == "bad_signature"
        assert station.store.head().size == size
    assert registrar.append(batch(station, 4))[0].seq == size
    check_all(station, size + 4)


def test_statement_that_is_none_is_refused_where_it_stands(station: Station, registrar: Registrar) -> None:
    size = registrar.sync().size
    envelopes = batch(station)
    with pytest.raises(CalyxError) as caught:
        registrar.append([*envelopes, Envelope(b"{}", envelopes[0].keyid, b"s" * 64)])
    assert caught.value.code == "bad_format"
    # What stands before it is refused first.
    with pytest.raises(CalyxError) as caught:
        registrar.append([forged(envelopes[1]), Envelope(b"{}", envelopes[0].keyid, b"s" * 64)])
    assert caught.value.code == "bad_signature"
    assert station.store.head().size == size


@pytest.mark.parametrize("signatures", ["good", "forged"])
@pytest.mark.parametrize("moment", ["before", "while it is told", "while it is asked"])
def test_process_that_dies_in_a_batch_leaves_all_to_be_checked_here(
    station: Station, registrar: Registrar, monkeypatch: pytest.MonkeyPatch, moment: str, signatures: str
) -> None:
    registrar.append(batch(station, 4))
    size = registrar.sync().size
    assert workers(registrar)
    envelopes = batch(station)
    if signatures == "forged":
        envelopes[-1] = forged(envelopes[-1])
    if moment == "before":
        kill(registrar)
    ask, settle = SignaturesAhead.ask, SignaturesAhead._settle
    calls = 0

    def tell(self: SignaturesAhead, *claims: Any) -> Asked:
        nonlocal calls
        asked = ask(self, *claims)
        calls += 1
        if moment == "while it is told" and calls == 2:
            kill(registrar)
        if moment == "while it is asked":
            # What it answers before it dies is lost with it.
            asked.answers = None
        return asked

    def wait(self: SignaturesAhead, asked: Asked) -> None:
        if moment == "while it is asked":
            kill(registrar)
        settle(self, asked)

    monkeypatch.setattr(SignaturesAhead, "ask", tell)
    monkeypatch.setattr(SignaturesAhead, "_settle", wait)
    if signatures == "forged":
        with pytest.raises(CalyxError) as caught:
            registrar.append(envelopes)
        assert caught.value.code == "bad_signature"
        assert station.store.head().size == size
    else:
        assert len(registrar.append(envelopes)) == COUNT
        check_all(station, size + COUNT)
    # It is not started again.
    assert workers(registrar) == []
    before = station.store.head().size
    registrar.append(batch(station, 4))
    assert workers(registrar) == []
    check_all(station, before + 4)


@pytest.mark.parametrize("reply", ["NUMBER.pack(number) + bytes(count)", "NUMBER.pack(number + 1) + b'\\x01' * count"])
def test_process_that_answers_anything_else_changes_nothing(
    station: Station, registrar: Registrar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    liar = tmp_path / "liar.py"
    liar.write_text(
        "import os\nfrom keys.ahead_worker import HEADER, HELLO, NUMBER, _read\nos.write(1, HELLO)\n"
        "while header := _read(HEADER.size):\n"
        "    number, count, size = HEADER.unpack(header)\n"
        "    _read(size)\n"
        f"    os.write(1, {reply})\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(ahead_module, "COMMAND", (sys.executable, str(liar)))
    size = registrar.sync().size
    envelopes = batch(station)
    with pytest.raises(CalyxError) as caught:
        registrar.append([*envelopes[:-1], forged(envelopes[-1])])
    assert caught.value.code == "bad_signature"
    assert station.store.head().size == size
    registrar.append(envelopes)
    check_all(station, size + COUNT)


def test_process_that_cannot_be_started_is_done_without(
    station: Station, registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead_module, "COMMAND", ("/nowhere/python",))
    size = registrar.sync().size
    registrar.append(batch(station))
    assert workers(registrar) == []
    check_all(station, size + COUNT)


def test_signature_of_a_key_revoked_since_it_was_made_is_refused(station: Station, registrar: Registrar) -> None:
    registrar.append(batch(station, 4))
    said = station.sign("ada", MESSAGE)
    revoke(station, "ada", position=0)
    registrar.sync()
    size = station.store.head().size
    with pytest.raises(CalyxError) as caught:
        registrar.append([station.sign("cbo", MESSAGE), said])
    assert caught.value.code == "unknown_key"
    assert station.store.head().size == size


def test_nobody_is_started_for_small_batches_or_the_first_big_ones(
    station: Station, registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_ahead, "WORTH_AHEAD", 8)
    monkeypatch.setattr(batch_ahead, "WORTH_START", 32)
    for _ in range(6):
        registrar.append(batch(station, 7))
    registrar.append(batch(station, 16))
    assert workers(registrar) == []
    registrar.append(batch(station, 16))
    assert len(workers(registrar)) == 1


def test_other_processes_get_no_private_key(
    station: Station, registrar: Registrar, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        sent.append(bytes(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    registrar.append(batch(station))
    told = b"".join(sent)
    assert told.count(station.keys["cbo"].public.raw)
    secrets = [station.log_key._key.seed, *(key._signing.seed for key in station.keys.values())]
    assert not any(told.count(secret) for secret in secrets)
