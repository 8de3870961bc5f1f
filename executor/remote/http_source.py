"""Fetching an export over HTTP from somebody who is not trusted.

No redirect is followed, no more is read than was asked for, and each file has its time. Proxies and certificates are
those of the environment, as for a person's other tools; credentials are never sent.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from io import BytesIO
from typing import BinaryIO, Final
from urllib.parse import urlsplit

import httpx

from executor.remote.http_patience import Connections, Trace
from keys.errors import Unavailable, UsageError

PATIENCE_S: Final = 30.0
"""Seconds that a file may take, and besides them the time for its bytes at the slowest rate."""
SLOWEST: Final = 64 * 1024
"""Bytes a second."""
_TRIES: Final = 3
_MAX_FAILURES: Final = 3
_MAX_REASON: Final = 200
"""Characters of a failure's own words."""
_GONE: Final = frozenset({404, 410})


class HttpSource:
    """`ledger.exports.mirror.Source` at an http or https address. As a context it closes its connections.

    Raises: UsageError (`bad_address`).
    """

    def __init__(
        self,
        address: str,
        *,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address: Final = parse_address(address)
        self._patience = patience_s
        self._clock = clock
        self._pause = pause
        self._failures = 0
        self._lock = threading.Lock()
        self._connections = Connections()
        self._client = httpx.Client(
            follow_redirects=False,
            timeout=httpx.Timeout(patience_s),
            limits=httpx.Limits(max_connections=8),
            # None is kept: whoever publishes could fill memory with them, and know its readers again.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers={"accept-encoding": "gzip, identity", "user-agent": "calyx"},
        )

    def __enter__(self) -> HttpSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(self, path: str, limit: int) -> bytes | None:
        data = BytesIO()
        return data.getvalue() if self.fetch_to(path, data, limit) else None

    def fetch_to(self, path: str, file: BinaryIO, limit: int) -> bool:
        start = file.tell()
        for left in reversed(range(_TRIES)):
            if self._failures >= _MAX_FAILURES:
                raise self._unreachable("it failed before, and is not asked again")
            try:
                found = self._try(path, file, limit)
            except httpx.HTTPError as error:
                file.seek(start)
                file.truncate()
                if not left or isinstance(error, httpx.TimeoutException):
                    with self._lock:
                        self._failures += 1
                    raise self._unreachable(f"{path}: {_reason(error)}") from None
                self._pause(0.2 * (_TRIES - left))
            else:
                with self._lock:
                    self._failures = 0
                return found
        raise AssertionError("the last try returns or raises")

    def _try(self, path: str, file: BinaryIO, limit: int) -> bool:
        seconds = self._patience + limit / SLOWEST
        late = threading.Event()
        try:
            with self._connections.limit(seconds) as (trace, late):
                return self._exchange(path, file, limit, self._clock() + seconds, trace)
        except httpx.HTTPError:
            if late.is_set():
                raise httpx.ReadTimeout("the file took too long") from None
            raise

    def _exchange(self, path: str, file: BinaryIO, limit: int, deadline: float, trace: Trace) -> bool:
        with self._client.stream("GET", f"{self.address}/{path}", extensions={"trace": trace}) as answer:
            if answer.status_code in _GONE:
                return False
            if answer.status_code != 200:
                what = "a redirect, which is not followed" if answer.is_redirect else f"status {answer.status_code}"
                raise self._unreachable(f"{path}: {what}")
            decoder = _decoder(answer.headers.get("content-encoding", "identity").lower())
            if decoder is None:
                raise self._unreachable(f"{path}: it is encoded in a way that was not asked for")
            left = limit
            # Raw and decoded here, because httpx would let a small answer grow past its limit before it is seen.
            for chunk in answer.iter_raw():
                if self._clock() > deadline:
                    raise httpx.ReadTimeout("the file took too long")
                data = decoder(chunk, left + 1)
                left -= len(data)
                if left < 0:
                    raise Unavailable("answer_too_large", f"{self.address}/{path} is over {limit} bytes")
                file.write(data)
        return True

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            "source_unreachable",
            f"cannot fetch from {self.address}: {why}",
            hint="try again; or fetch it with another tool, and name the directory",
        )


def _reason(error: httpx.HTTPError) -> str:
    """What kind of failure it was, and its own words: they tell a wrong certificate from a name or a port that is not
    there. Some of them may be the publisher's.
    """
    words = " ".join(str(error).split())[:_MAX_REASON]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _decoder(encoding: str) -> Callable[[bytes, int], bytes] | None:
    """Takes a chunk, and gives at most so many bytes of what it stands for; None for an encoding that is refused."""
    if encoding == "identity":
        return lambda chunk, count: chunk[:count]
    if encoding != "gzip":
        return None
    gzip = zlib.decompressobj(wbits=31)

    def decode(chunk: bytes, count: int) -> bytes:
        try:
            return gzip.decompress(chunk, count)
        except zlib.error:
            raise httpx.DecodingError("it is not gzip") from None

    return decode


def is_url(address: str) -> bool:
    """Whether an address is meant as a URL, and not as a directory."""
    return "://" in address


def parse_address(address: str) -> str:
    """The prefix of an export on the web: its scheme http or https, no credentials, no query, no slash at its end.

    Raises: UsageError (`bad_address`).
    """
    try:
        parts = urlsplit(address)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or "@" in parts.netloc or "?" in address or "#" in address or not address.isascii():
        raise UsageError(
            "bad_address",
            "an address is http:// or https://, a host and a path, without credentials, query or fragment",
            hint="or name a directory",
        )
    if any(char <= " " or char == "\x7f" for char in address):
        raise UsageError("bad_address", "an address holds no space and no control character")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
