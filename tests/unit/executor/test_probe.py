from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from instances import free_port

from executor.hosts.probe import MAX_BODY, check_probe, try_url
from keys.errors import CalyxError
from policies.fleet import Probe

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is late because the host stalls is an answer all the same."""
    for name in ("_TRY_S", "_LEAST_S"):
        monkeypatch.setattr(f"executor.hosts.probe.{name}", PATIENCE_S)


@contextmanager
def answering(reply: Callable[[socket.socket], object], connections: int = 50, *, read: bool = True) -> Iterator[str]:
    """A server of 127.0.0.1 that answers so many connections and ends. `read`: what was asked is read before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)

        def serve() -> None:
            for _ in range(connections):
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(PATIENCE_S)
                    try:
                        if read:
                            connection.recv(4096)
                        reply(connection)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


def status(line: str, body: bytes = b"", headers: str = "") -> Callable[[socket.socket], object]:
    head = f"HTTP/1.1 {line}\r\ncontent-length: {len(body)}\r\n{headers}connection: close\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def never(timeout_s: float) -> bool:
    time.sleep(timeout_s)
    return False


def ended() -> CalyxError:
    return CalyxError("service_exited", "it ended")


def test_right_status_passes() -> None:
    with answering(status("204 No Content")) as url:
        check_probe(Probe(url=url, status=204, timeout_s=PATIENCE_S), never, ended)


def test_wrong_status_fails_and_is_named() -> None:
    with answering(status("503 Busy")) as url, pytest.raises(CalyxError, match="the status is 503") as refused:
        check_probe(Probe(url=url).model_copy(update={"timeout_s": 0}), never, ended)
    assert refused.value.code == "probe_failed"


def test_probe_is_tried_until_the_service_is_up() -> None:
    replies = iter([status("503 Busy"), status("503 Busy"), status("200 OK", b"up")])

    def reply(connection: socket.socket) -> None:
        next(replies)(connection)

    with answering(reply) as url:
        check_probe(Probe(url=url, timeout_s=PATIENCE_S), never, ended)
    assert next(replies, None) is None


def test_service_that_was_up_when_the_machine_stood_still_has_one_more_try() -> None:
    """The whole time passes in the first try; what that one met says nothing of the service."""
    replies, looks = iter([status("503 Busy"), status("200 OK", b"up")]), iter([0.0, 0.0])

    def reply(connection: socket.socket) -> None:
        next(replies)(connection)

    with answering(reply) as url:
        check_probe(Probe(url=url, timeout_s=5), never, ended, monotonic=lambda: next(looks, 100.0))


def test_redirect_is_not_followed() -> None:
    with answering(status("302 Found", headers="location: http://127.0.0.1:1/\r\n")) as url:
        assert try_url(url, 200, PATIENCE_S) == "the status is 302"


@pytest.mark.parametrize("host", ["xn--a", "xn--"])
def test_redirect_that_the_library_stumbles_over_is_no_answer(host: str) -> None:
    with answering(status("302 Found", headers=f"location: http://{host}/\r\n")) as url:
        assert try_url(url, 200, PATIENCE_S) is not None


@pytest.mark.parametrize("url", ["http://xn--a/", "http://127.0.0.1:99999/"])
def test_url_that_the_library_stumbles_over_is_no_answer(url: str) -> None:
    assert try_url(url, 200, PATIENCE_S) is not None


def test_body_without_an_end_is_cut() -> None:
    with answering(status("200 OK", b"x" * (MAX_BODY + 1))) as url:
        assert try_url(url, 200, PATIENCE_S) == f"the body is over {MAX_BODY} bytes"


def test_answer_that_drips_is_given_up_as_a_whole() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        # Whoever waited for the end would have its answer.
        for _ in range(20 * PATIENCE_S):
            connection.sendall(b"x: y\r\n")
            time.sleep(0.05)
        connection.sendall(b"content-length: 0\r\n\r\n")

    with answering(drip) as url:
        assert try_url(url, 200, 0.3) == "no answer within 0.3 s"


def test_garbage_is_no_answer() -> None:
    with answering(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n")) as url:
        assert try_url(url, 200, PATIENCE_S) == "RemoteProtocolError"


def test_nothing_there_is_no_answer() -> None:
    assert try_url(f"http://127.0.0.1:{free_port()}/", 200, PATIENCE_S) == "ConnectError"


def test_url_that_is_none_is_no_answer() -> None:
    assert try_url("http://[::1", 200, PATIENCE_S) == "InvalidURL"


def test_dead_service_is_not_waited_for() -> None:
    with pytest.raises(CalyxError) as refused:
        check_probe(Probe(url=f"http://127.0.0.1:{free_port()}/", timeout_s=PATIENCE_S), lambda _: True, ended)
    assert refused.value.code == "service_exited"


def test_answer_of_a_stranger_does_not_count_for_a_dead_service() -> None:
    with answering(status("200 OK")) as url, pytest.raises(CalyxError) as refused:
        check_probe(Probe(url=url, timeout_s=PATIENCE_S), lambda _: True, ended)
    assert refused.value.code == "service_exited"


def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}/")
    with answering(status("200 OK")) as url:
        assert try_url(url, 200, PATIENCE_S) is None


def test_name_that_is_not_found_in_time_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is that of the probe, whatever a resolver takes: the system's may hang."""
    found = threading.Event()

    def hang(*_: object, **__: object) -> None:
        found.wait()
        raise OSError("too late")

    monkeypatch.setattr("socket.getaddrinfo", hang)
    give_up = threading.Timer(PATIENCE_S, found.set)
    give_up.start()
    try:
        assert str(try_url("http://localhost/", 200, 0.05)).startswith("no answer within")
        assert not found.is_set(), "it waited for the resolver"
    finally:
        give_up.cancel()
        found.set()


def test_password_in_a_signed_address_is_not_sent() -> None:
    """The fleet is public, and so is what stands in it; whoever answers on that port need not hear it as well."""
    asked: list[bytes] = []

    def reply(connection: socket.socket) -> None:
        asked.append(connection.recv(4096))
        status("200 OK")(connection)

    with answering(reply, connections=1, read=False) as url:
        assert try_url(url.replace("//", "//ada:secret@"), 200, PATIENCE_S) is None
    assert asked and b"authorization" not in asked[0].lower()
