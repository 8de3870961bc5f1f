"""Fetching from a server that is not trusted: every misbehaviour is one refusal, and none costs more than its limit."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import httpx
import publishing
import pytest
from publishing import Publisher, published
from refusal import refused

from executor.remote.http_patience import Connections
from executor.remote.http_source import HttpSource, _reason, parse_address
from keys.errors import Unavailable

LIMIT = 1000


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    (tmp_path / "checkpoint").write_bytes(b"some content\n")
    (tmp_path / "tile").mkdir()
    with published(tmp_path) as server:
        yield server


def source(publisher: Publisher, patience: float = 60) -> HttpSource:
    return HttpSource(publisher.address + "/", patience_s=patience, pause=lambda _: None)


def test_file_and_no_file(publisher: Publisher) -> None:
    with source(publisher) as web:
        assert web.fetch("checkpoint", LIMIT) == b"some content\n"
        assert web.fetch("checkpoint", 13) == b"some content\n"
        assert web.fetch("tile/0/000", LIMIT) is None
    assert publisher.asked == ["checkpoint", "checkpoint", "tile/0/000"]


def test_packed_file_is_unpacked(publisher: Publisher) -> None:
    publisher.fault = publishing.packed
    with source(publisher) as web:
        assert web.fetch("checkpoint", 13) == b"some content\n"


@pytest.mark.parametrize("fault", ["flood", "cut", "redirect", "fail", "bomb", "nested"])
def test_server_that_misbehaves_is_refused(publisher: Publisher, fault: str) -> None:
    publisher.fault = getattr(publishing, fault)
    with source(publisher) as web, pytest.raises(Unavailable) as error:
        web.fetch("checkpoint", LIMIT)
    assert error.value.code == ("answer_too_large" if fault in {"flood", "bomb"} else "source_unreachable")


def test_redirect_is_not_followed_wherever_it_leads(publisher: Publisher) -> None:
    def lead(handler: publishing.Handler, data: bytes | None) -> bool:
        if data is None:
            handler.answer(302, b"", location=f"{publisher.address}/checkpoint")
        return data is None

    publisher.fault = lead
    with source(publisher) as web, refused("source_unreachable"):
        web.fetch("elsewhere", LIMIT)
    assert publisher.asked == ["elsewhere"]


@pytest.mark.parametrize("fault", [publishing.hang, publishing.drip, publishing.drip_head])
def test_server_that_hangs_is_given_up(publisher: Publisher, fault: publishing.Fault) -> None:
    publisher.fault = fault
    with source(publisher, 0.2) as web, refused("source_unreachable"):
        web.fetch("checkpoint", LIMIT)
    # Not at all where the host stalled before the server took the request.
    assert len(publisher.asked) <= 1


def test_connection_that_is_made_after_its_time_is_shut_down() -> None:
    """Looking up a name may take longer than all of the exchange, and what is sent drop by drop has no end."""
    ours, theirs = socket.socketpair()
    stream = SimpleNamespace(get_extra_info=lambda _: ours)
    with ours, theirs:
        with pytest.raises(httpx.ReadError), Connections().limit(0) as (trace, late):
            assert late.wait(60)
            trace("connection.connect_tcp.complete", {"return_value": stream})
        theirs.settimeout(60)
        assert theirs.recv(1) == b""


def test_file_one_byte_over_the_limit_is_refused(publisher: Publisher) -> None:
    with source(publisher) as web, refused("answer_too_large"):
        web.fetch("checkpoint", 12)


def test_cut_answer_is_asked_for_again_and_leaves_nothing_behind(publisher: Publisher) -> None:
    def once(handler: publishing.Handler, data: bytes | None) -> bool:
        return len(publisher.asked) == 1 and publishing.cut(handler, data)

    publisher.fault = once
    file = BytesIO(b"before ")
    file.seek(7)
    with source(publisher) as web:
        assert web.fetch_to("checkpoint", file, LIMIT)
    assert file.getvalue() == b"before some content\n"


def test_cookies_are_not_kept(publisher: Publisher) -> None:
    sent: list[str | None] = []

    def bake(handler: publishing.Handler, data: bytes | None) -> bool:
        sent.append(handler.headers.get("cookie"))
        handler.answer(200, data or b"", set_cookie=f"a{len(sent)}={'x' * 4_000}; Path=/; Max-Age=9999")
        return True

    publisher.fault = bake
    with source(publisher) as web:
        for _ in range(3):
            assert web.fetch("checkpoint", LIMIT)
    assert sent == [None, None, None]


def test_server_that_failed_often_is_left_alone(publisher: Publisher) -> None:
    publisher.fault = publishing.hang
    said = []
    with source(publisher, 0.1) as web:
        for _ in range(6):
            with refused("source_unreachable") as refusal:
                web.fetch("checkpoint", 1)
            said.append("is not asked again" in refusal.value.message)
    assert said == [False] * 3 + [True] * 3
    assert len(publisher.asked) <= 3


def test_nobody_is_there(tmp_path: Path) -> None:
    with published(tmp_path) as gone:
        address = gone.address
    with HttpSource(address, pause=lambda _: None) as web, refused("source_unreachable") as refusal:
        web.fetch("checkpoint", LIMIT)
    assert "Connection refused" in refusal.value.message
    assert refusal.value.hint


def test_why_a_server_cannot_be_reached_is_said(publisher: Publisher) -> None:
    # A name, a port and a certificate that are wrong are all a failed connection, and each wants another remedy.
    address = publisher.address.replace("http://", "https://")
    with HttpSource(address, pause=lambda _: None) as web, refused("source_unreachable") as refusal:
        web.fetch("checkpoint", LIMIT)
    assert "SSL" in refusal.value.message


def test_words_of_a_failure_are_cut_and_stay_on_one_line() -> None:
    words = _reason(httpx.ReadError("one\ntwo " + "x" * 5000))
    assert words.startswith("ReadError: one two x")
    assert len(words) < 300
    assert _reason(httpx.ReadError("")) == "ReadError"


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("https://Example.org/log//", "https://example.org/log"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://[::1]/a", "https://[::1]/a"),
    ],
)
def test_address(address: str, prefix: str) -> None:
    assert parse_address(address) == prefix


@pytest.mark.parametrize(
    "address",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "https://",
        "https:///log",
        "https://ada:secret@example.org/",
        "https://example.org/?a=b",
        "https://example.org/#here",
        "https://example.org:99999/",
        "https://[::1/",
        "https://example.org/a b",
        "https://example.org/\n",
        "https://exämple.org/",
    ],
)
def test_address_that_is_none(address: str) -> None:
    with refused("bad_address"):
        parse_address(address)
