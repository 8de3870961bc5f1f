"""Addresses, frames and messages: what is written is read again, and everything else is refused in one way."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.remote.address import Address, format_address, is_address, parse_address
from executor.remote.frames import DATA, MAX_DATA, MAX_MESSAGE, MESSAGE, BadFrame, Channel, ConnectionLost, PeerSilent
from executor.remote.messages import (
    AskRecords,
    AskTip,
    Close,
    FindObject,
    GetObject,
    Hello,
    HostRefused,
    PutObject,
    Request,
    SaidReceipt,
    SaidSubmitted,
    Submit,
    format_answer,
    format_refusal,
    format_request,
    parse_answer,
    parse_request,
)
from keys.errors import CalyxError, FormatError, LawRefused, Refused, Unavailable, UsageError

USERS = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}", fullmatch=True)
HOSTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,60}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)
STEPS = (
    st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="%?#\\/"), min_size=1, max_size=20)
).filter(lambda step: step not in {".", ".."})
ADDRESSES = st.builds(
    Address,
    st.none() | USERS,
    HOSTS,
    st.none() | st.integers(1, 65_535),
    st.lists(STEPS, min_size=1, max_size=5).map(lambda steps: "/" + "/".join(steps)),
)
COUNTS = st.integers(0, 2**53 - 1)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(Hello, verb=st.just("hello"), protocol=COUNTS, submits=st.booleans()),
    st.builds(AskTip, verb=st.just("tip")),
    st.builds(AskRecords, verb=st.just("read"), start=COUNTS, stop=COUNTS),
    st.builds(FindObject, verb=st.just("find"), sha256=HASHES),
    st.builds(GetObject, verb=st.just("get"), sha256=HASHES, size=COUNTS),
    st.builds(PutObject, verb=st.just("put"), sha256=HASHES, size=st.integers(0, 2**24)),
    st.builds(Submit, verb=st.just("submit"), envelopes=st.integers(1, 16), accept_clock=st.booleans()),
    st.builds(Close, verb=st.just("close")),
)
RECEIPTS = st.lists(st.builds(SaidReceipt, seq=COUNTS, digest=HASHES, leaf=HASHES, time=COUNTS), max_size=16)


@given(ADDRESSES)
def test_address_is_read_as_it_is_written(address: Address) -> None:
    text = format_address(address)
    assert parse_address(text) == address == parse_address(f"{text}/")
    assert is_address(text) and str(address) == text


@given(st.one_of(st.text(), st.text().map(lambda text: f"ssh://{text}"), st.binary().map(os.fsdecode)))
def test_text_is_an_address_in_one_spelling_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError as error:
        assert (error.code == "bad_address" and text not in error.message) or len(text) < 2
        return
    assert format_address(address) == text.removesuffix("/")
    assert not address.destination.startswith("-")


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=reboot/srv",
        "ssh://-user@host/srv",
        "ssh://user@-host/srv",
        "ssh://user:secret@host/srv",
        "ssh://a@b@host/srv",
        "ssh://host",
        "ssh://host/",
        "ssh://host//srv",
        "ssh://host/srv//calyx",
        "ssh://host/srv/../etc",
        "ssh://host/./srv",
        "ssh://host/srv?command=x",
        "ssh://host/srv#x",
        "ssh://host/%2e%2e",
        "ssh://host/srv\n",
        "ssh://host/s\u0301rv",
        "ssh://ho st/srv",
        "ssh://host:0/srv",
        "ssh://host:022/srv",
        "ssh://host:65536/srv",
        "ssh://host:/srv",
        "ssh://[::1/srv",
        "ssh://[host]/srv",
        "ssh://[fe80::1%eth0]/srv",
        "ssh:///srv",
        "SSH://host/srv",
        "ssh:host/srv",
        "http://host/srv",
        "ssh://host/" + "x" * 1024,
    ],
)
def test_other_spellings_of_an_address_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.code == "bad_address"


def test_directory_is_no_address() -> None:
    assert not is_address("/srv/calyx") and not is_address("ssh") and not is_address("")
    # A scheme in other letters is meant as an address, and is not the name of a directory.
    assert is_address("SSH://host/srv")


@contextmanager
def piped(data: bytes) -> Iterator[Channel]:
    """A channel in which `data` came, and nothing follows."""
    source, sink = os.pipe()
    os.write(sink, data)
    os.close(sink)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        yield Channel(source, nowhere)
    finally:
        os.close(source)
        os.close(nowhere)


FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just(MESSAGE), st.binary(max_size=3000)),
        st.tuples(st.just(DATA), st.binary(min_size=1, max_size=3000)),
    ),
    max_size=6,
)


def written(frames: list[tuple[bytes, bytes]]) -> bytes:
    source, sink = os.pipe()
    try:
        channel = Channel(source, sink)
        for kind, payload in frames:
            channel.send(kind, payload, channel.begin(60))
        channel.flush(channel.begin(60))
        return os.read(source, 65_536) if frames else b""
    finally:
        os.close(source)
        os.close(sink)


@given(FRAMES, st.integers(0, 20))
def test_frames_are_read_as_they_are_written_and_a_cut_is_seen(frames: list[tuple[bytes, bytes]], cut: int) -> None:
    data = written(frames)
    whole = max(0, len(data) - cut)
    with piped(data[:whole]) as channel:
        read = []
        with pytest.raises(ConnectionLost) as ended:
            while True:
                frame = channel.receive(channel.begin(60))
                read.append((frame.kind, frame.payload))
    assert read == frames[: len(read)]
    used = sum(5 + len(payload) for _, payload in read)
    assert ended.value.clean == (used == whole)
    assert (len(read) == len(frames)) == (whole == len(data)) or not frames


@given(st.binary(max_size=200))
def test_bytes_are_frames_or_refused(data: bytes) -> None:
    with piped(data) as channel, pytest.raises((ConnectionLost, BadFrame)):
        while True:
            frame = channel.receive(channel.begin(60))
            assert frame.kind in {MESSAGE, DATA}


def test_frame_over_its_limit_is_not_sent() -> None:
    with piped(b"") as channel:
        for kind, payload in ((MESSAGE, bytes(MAX_MESSAGE + 1)), (DATA, b"")):
            with pytest.raises(ValueError, match="over its limit"):
                channel.send(kind, payload, channel.begin(60))


def test_nothing_is_waited_for_in_vain() -> None:
    source, sink = os.pipe()
    try:
        channel = Channel(source, sink)
        with pytest.raises(PeerSilent):
            channel.receive(channel.begin(0.01))
    finally:
        os.close(source)
        os.close(sink)


@given(REQUESTS)
def test_request_is_read_as_it_is_written(request: Request) -> None:
    assert parse_request(format_request(request)) == request


@given(st.binary(max_size=300))
def test_bytes_are_a_request_or_refused(data: bytes) -> None:
    with pytest.raises(CalyxError) as caught:
        parse_request(data)
    assert isinstance(caught.value, FormatError | Refused)


@given(RECEIPTS)
def test_answer_is_read_as_it_is_written(receipts: list[SaidReceipt]) -> None:
    said = SaidSubmitted(receipts=tuple(receipts))
    assert parse_answer(format_answer(said), SaidSubmitted) == said


ERRORS = st.builds(
    lambda make, message, hint, fields: make(message, hint, fields),
    st.sampled_from(
        [
            lambda m, h, f: CalyxError("object_mismatch", m, hint=h, **f),
            lambda m, h, f: Refused("read_only", m, hint=h, **f),
            lambda m, h, f: UsageError("bad_option", m, hint=h, **f),
            lambda m, h, f: Unavailable("ledger_busy", m, hint=h, **f),
            lambda m, h, f: LawRefused("quorum_unmet", m, rule="votes", hint=h, **f),
        ]
    ),
    st.text(max_size=3000),
    st.text(max_size=3000),
    st.dictionaries(
        st.sampled_from(["entry", "step", "object", "limit"]),
        st.none() | st.integers() | st.text(st.characters(), max_size=600),
    ),
)


@pytest.mark.parametrize(("a_look_s", "arrives"), [(0.5, True), (8.0, False)])
def test_slow_line_gets_its_records_and_a_stuck_one_does_not(a_look_s: float, arrives: bool) -> None:
    source, sink = os.pipe()
    clock = itertools.count()
    taken: list[int] = []

    def take() -> None:
        while data := os.read(source, 65_536):
            taken.append(len(data))

    reader = threading.Thread(target=take)
    reader.start()
    try:
        channel = Channel(sink, sink, monotonic=lambda: next(clock) * a_look_s)
        patience = channel.begin(20)
        if arrives:
            for _ in range(16):
                channel.send(DATA, bytes(MAX_DATA), patience)
            channel.flush(patience)
        else:
            with pytest.raises(PeerSilent):
                for _ in range(16):
                    channel.send(DATA, bytes(MAX_DATA), patience)
    finally:
        os.close(sink)
        reader.join(60)
        os.close(source)
    assert (sum(taken) == 16 * (MAX_DATA + 5)) is arrives


@given(ERRORS)
def test_refusal_crosses_with_its_code_and_what_fits(error: CalyxError) -> None:
    data = format_refusal(error)
    assert len(data) <= MAX_MESSAGE
    with pytest.raises(HostRefused) as caught:
        parse_answer(data, SaidSubmitted)
    said = caught.value
    assert (said.code, said.exit_code) == (error.code, error.exit_code)
    assert isinstance(said, Unavailable) == isinstance(error, Unavailable)
    for name, value in said.fields.items():
        if not isinstance(value, str):
            assert error.fields[name] == value


def test_largest_refusal_fits_into_a_frame() -> None:
    fields = {f"f{n}": "\x00" * 600 for n in range(30)}
    data = format_refusal(CalyxError("no", "\x00" * 9000, hint="\x00" * 9000, **fields))
    assert len(data) <= MAX_MESSAGE
    with pytest.raises(HostRefused):
        parse_answer(data, SaidSubmitted)


def test_path_that_is_no_text_crosses() -> None:
    with pytest.raises(HostRefused, match=r"cannot read a\?b"):
        parse_answer(format_refusal(CalyxError("no", os.fsdecode(b"cannot read a\xffb"))), SaidSubmitted)
