"""The laptop's side of a connection: asks, waits no longer than it must, and takes no more than it asked for.

Every request may be said twice, so a connection that is lost after it worked is made anew once, and the request is sent
again: submitting the same envelopes gives the entries that they already made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from executor.remote.frames import DATA, MESSAGE, BadFrame, Channel, ConnectionLost, PeerSilent
from executor.remote.messages import (
    CHUNK,
    PROTOCOL,
    Close,
    Hello,
    HostRefused,
    Request,
    SaidDone,
    SaidHello,
    Submit,
    format_request,
    parse_answer,
)
from keys.errors import FormatError
from keys.values import Model

R = TypeVar("R", bound=Model)

Take = Callable[[bytes], object]


class Transport(Protocol):
    """A running connection to a server."""

    @property
    def channel(self) -> Channel:
        """The frames."""
        ...

    def close(self) -> str:
        """End it; how it ended, in a few words, or "" when there is nothing to say."""
        ...


Connect = Callable[[], Transport]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a server has: for the first answer, in which a person may have to type a passphrase; for others; for
    a submission, before which the host may have to verify its whole ledger.
    """

    first_s: float = 120.0
    answer_s: float = 30.0
    submit_s: float = 120.0
    close_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Expected:
    """The raw bytes that an answer may have at most: `frames` D frames, each of `each` bytes, in all `size` bytes."""

    frames: int
    each: int
    size: int


NOTHING: Final = Expected(0, 0, 0)


def expect_object(size: int) -> Expected:
    """What the answer to `get` may have."""
    return Expected(-(-size // CHUNK), CHUNK, size)


class Client:
    """One connection at a time to one server, made when it is needed. Not shared between threads."""

    def __init__(self, connect: Connect, limits: Limits | None = None) -> None:
        self._connect = connect
        self._limits = limits or Limits()
        self._transport: Transport | None = None
        self.submits = False
        """Whether statements will be submitted: then a host that takes none says so at once."""

    def ask(
        self,
        request: Request,
        model: type[R],
        *,
        data: Sequence[bytes] = (),
        expected: Expected = NOTHING,
        taker: Callable[[], Take] | None = None,
    ) -> R:
        """Send a request and take its answer. `data`: the D frames after the request. `expected`: limits of the
        answer's D frames. `taker`: gives who takes them, anew each time that the request is sent.

        Raises: HostRefused; Unavailable (`connection_lost`, `peer_silent`, `bad_answer`).
        """
        if self._transport is None:
            self._greet()
        try:
            return self._exchange(request, model, data, expected, taker)
        except ConnectionLost:
            # It had answered hello, so there is a server, and it may be there again.
            self._drop()
            self._greet()
            try:
                return self._exchange(request, model, data, expected, taker)
            except ConnectionLost:
                self._drop()
                raise

    def close(self) -> None:
        """Say goodbye and end the connection."""
        if self._transport is not None:
            try:
                self._exchange(Close(verb="close"), SaidDone, (), NOTHING, None, seconds=self._limits.close_s)
            except (HostRefused, ConnectionLost, PeerSilent, BadFrame):
                pass
            finally:
                self._drop()

    def _greet(self) -> None:
        hello = Hello(verb="hello", protocol=PROTOCOL, submits=self.submits)
        self._transport = self._connect()
        try:
            said = self._exchange(hello, SaidHello, (), NOTHING, None, seconds=self._limits.first_s)
            if said.protocol != PROTOCOL:
                raise BadFrame(f"the server speaks protocol {said.protocol}, not {PROTOCOL}")
        except ConnectionLost as error:
            raise ConnectionLost(
                f"no calyx answers there: {self._drop() or error.message}", hint="try: ssh HOST calyx --version"
            ) from None
        except BaseException:
            self._drop()
            raise

    def _exchange(
        self,
        request: Request,
        model: type[R],
        data: Sequence[bytes],
        expected: Expected,
        taker: Callable[[], Take] | None,
        *,
        seconds: float | None = None,
    ) -> R:
        if self._transport is None:
            raise ConnectionLost("the connection is closed")
        channel = self._transport.channel
        try:
            patience = channel.begin(
                seconds or (self._limits.submit_s if isinstance(request, Submit) else self._limits.answer_s)
            )
            channel.send(MESSAGE, format_request(request), patience)
            for each in data:
                channel.send(DATA, each, patience)
            channel.flush(patience)
            take = None if taker is None else taker()
            frames = size = 0
            while (frame := channel.receive(patience)).kind == DATA:
                frames, size = frames + 1, size + len(frame.payload)
                if frames > expected.frames or len(frame.payload) > expected.each or size > expected.size:
                    raise BadFrame("more came than was asked for")
                if take is not None:
                    take(frame.payload)
            try:
                return parse_answer(frame.payload, model)
            except FormatError as error:
                raise BadFrame(f"an answer cannot be read: {error.message}") from None
        except (HostRefused, ConnectionLost):
            raise
        except BaseException:
            # What comes next could be the rest of this answer.
            self._drop()
            raise

    def _drop(self) -> str:
        transport, self._transport = self._transport, None
        return "" if transport is None else transport.close()
