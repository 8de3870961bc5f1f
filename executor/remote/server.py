"""The host's side of a remote home: one client, one request at a time, no verb that names a path or runs anything.

Who may connect is decided by sshd; what may be appended, by the registrar. This side only hands out bytes and takes
signed envelopes, in bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from executor.remote.frames import DATA, MESSAGE, BadFrame, Channel, ConnectionLost, Frame, Patience, PeerSilent
from executor.remote.messages import (
    CHUNK,
    MAX_BATCH,
    MAX_PUT,
    MAX_PUTS,
    MAX_RECORDS,
    PROTOCOL,
    AskRecords,
    AskTip,
    Close,
    FindObject,
    GetObject,
    Hello,
    PutObject,
    Request,
    SaidDone,
    SaidFound,
    SaidHello,
    SaidObject,
    SaidReceipt,
    SaidRecords,
    SaidSubmitted,
    SaidTip,
    Submit,
    format_answer,
    format_refusal,
    parse_request,
)
from keys.errors import CalyxError, FormatError, Refused
from keys.values import Model
from ledger.envelope import MAX_ENVELOPE, Envelope, parse_envelope_bytes
from ledger.objects import DirectoryObjects, ObjectRef
from ledger.record import MAX_RECORD
from ledger.statement import parse_statement
from ledger.store import Reader
from ledger.verified import open_envelope
from policies.law.position import find_holder, parse_predicate

if TYPE_CHECKING:
    from policies.fold.state import State
    from policies.submitter import Submitter

IDLE_S: Final = 3_600.0
"""How long a client may ask nothing; it connects again by itself."""
FRAME_S: Final = 60.0
"""How long the rest of a request, or the taking of an answer, may take."""

Log = Callable[[str], None]

_RESTORE: Final = "restore the ledger from a copy"


class Desk(Protocol):
    """What a server needs of its home."""

    def reader(self) -> Reader:
        """The ledger."""
        ...

    def objects(self) -> DirectoryObjects:
        """The objects."""
        ...

    def registrar(self, *, accept_clock: bool) -> Submitter:
        """Whoever appends. Raises: Refused (`read_only`); as `executor.homes.home.Home.open_registrar`."""
        ...


class Server:
    """Answers the requests that come over one channel, in order."""

    def __init__(
        self, channel: Channel, desk: Desk, log: Log, *, idle_s: float | None = IDLE_S, frame_s: float = FRAME_S
    ) -> None:
        self._channel = channel
        self._desk = desk
        self._log = log
        self._idle_s = idle_s
        self._frame_s = frame_s
        self._staged: dict[ObjectRef, bytes] = {}
        self._greeted = False

    def run(self) -> None:
        """Answer until the client closes the connection, says `close`, breaks the protocol, or is silent too long."""
        try:
            while True:
                first = self._channel.receive(self._channel.begin(self._idle_s))
                if not self._serve(first):
                    return
        except ConnectionLost as error:
            if not error.clean:
                self._log(f"{error}")
        except PeerSilent as error:
            self._log(f"{error}")
        except BadFrame as error:
            self._log(f"{error}")
            self._refuse(error)

    def _serve(self, frame: Frame) -> bool:
        """Answer one request; false when it was the last one. Raises: ConnectionLost, PeerSilent, BadFrame."""
        if frame.kind != MESSAGE:
            raise BadFrame("raw bytes came where a request belongs")
        try:
            request = parse_request(frame.payload)
        except CalyxError as error:
            # What may follow it is not known either, so nothing more can be understood.
            self._refuse(error)
            return False
        if not self._greeted and not isinstance(request, Hello):
            self._refuse(Refused("no_hello", "a connection begins with hello"))
            return False
        bodies = self._bodies(request)
        try:
            if isinstance(request, Hello):
                self._greet(request)
            said = self._answer(request, bodies)
        except (ConnectionLost, PeerSilent, BadFrame):
            raise
        except CalyxError as error:
            self._refuse(error)
            return self._greeted
        self._say(said)
        return not isinstance(request, Close)

    def _bodies(self, request: Request) -> list[bytes]:
        """The D frames that belong to a request, read before anything is refused."""
        patience = self._channel.begin(self._frame_s)
        if isinstance(request, Submit):
            return [self._data(patience, 1, MAX_ENVELOPE) for _ in range(request.envelopes)]
        size = request.size if isinstance(request, PutObject) else 0
        # Whole chunks alone: 16 MiB in frames of a byte each would take 100 times the memory.
        return [self._data(patience, length, length) for length in _chunks(size)]

    def _data(self, patience: Patience, least: int, most: int) -> bytes:
        frame = self._channel.receive(patience)
        if frame.kind != DATA or not least <= len(frame.payload) <= most:
            raise BadFrame("what came is not what the request announced")
        return frame.payload

    def _greet(self, request: Hello) -> None:
        if request.protocol != PROTOCOL:
            raise Refused(
                "unknown_protocol",
                f"protocol {request.protocol} is not spoken here, only {PROTOCOL}",
                hint="use the same version of calyx on both machines",
            )
        if request.submits:
            # Whoever cannot append says so now, and not to a person who has signed.
            self._desk.registrar(accept_clock=False)
        self._greeted = True

    def _answer(self, request: Request, bodies: list[bytes]) -> Model:  # one for each verb
        match request:
            case Hello():
                return SaidHello(protocol=PROTOCOL)
            case AskTip():
                tip = self._desk.reader().tip()
                note = tip.checkpoint.decode("utf-8", "replace")
                return SaidTip.from_json({"size": tip.head.size, "hash": tip.head.hash, "checkpoint": note})
            case AskRecords():
                return self._records(request)
            case FindObject():
                found = self._desk.objects().find(request.sha256)
                return SaidFound(size=None if found is None else found.size)
            case GetObject():
                return self._object(ObjectRef(sha256=request.sha256, size=request.size))
            case PutObject():
                return self._stage(ObjectRef(sha256=request.sha256, size=request.size), b"".join(bodies))
            case Submit():
                return self._submit([parse_envelope_bytes(body) for body in bodies], accept_clock=request.accept_clock)
            case Close():
                return SaidDone()

    def _records(self, request: AskRecords) -> SaidRecords:
        count = size = 0
        stop = min(request.stop, request.start + MAX_RECORDS)
        patience = self._channel.begin(self._frame_s)
        if request.start < stop:
            for record in self._desk.reader().read(request.start, stop):
                # Larger is none that was appended; the client would take it for a broken protocol.
                if not 0 < len(record) <= MAX_RECORD:
                    raise CalyxError("ledger_corrupt", f"entry {request.start + count} is no record", hint=_RESTORE)
                self._channel.send(DATA, record, patience)
                count, size = count + 1, size + len(record)
                if size >= MAX_BATCH:
                    break
        return SaidRecords(count=count)

    def _object(self, ref: ObjectRef) -> SaidObject:
        # What turns out not to be the object ends with a refusal after its chunks, and the client drops them.
        for chunk in _cut(self._desk.objects().stream(ref)):
            self._channel.send(DATA, chunk, self._channel.begin(self._frame_s))
        return SaidObject(size=ref.size)

    def _stage(self, ref: ObjectRef, data: bytes) -> SaidDone:
        if sha256(data).hexdigest() != ref.sha256:
            raise CalyxError("object_mismatch", "the object's content has another digest than was said")
        if sum(other.size for other in self._staged if other != ref) + ref.size > MAX_PUT:
            raise FormatError(f"objects of over {MAX_PUT} bytes were brought before a statement", code="too_large")
        if len(self._staged) >= MAX_PUTS and ref not in self._staged:
            raise FormatError(f"over {MAX_PUTS} objects were brought before a statement", code="too_many")
        self._staged[ref] = data
        return SaidDone()

    def _submit(self, envelopes: list[Envelope], *, accept_clock: bool) -> SaidSubmitted:
        registrar = self._desk.registrar(accept_clock=accept_clock)
        # An order brings no objects. It must not fail here for want of room that the registrar would make for it.
        if self._staged:
            state = registrar.sync()
            for envelope in envelopes:
                self._keep_staged(state, envelope)
        receipts = registrar.append(envelopes)
        return SaidSubmitted(
            receipts=tuple(SaidReceipt(seq=r.seq, digest=r.digest, leaf=r.leaf, time=r.time) for r in receipts)
        )

    def _keep_staged(self, state: State, envelope: Envelope) -> None:
        """Put the objects that a statement names into the home, once an enrolled key is seen to have signed it: whoever
        merely connects must not fill the disk.
        """
        named = [ref for ref in self._staged if ref.sha256.encode() in envelope.body]
        if not named:
            return
        statement = parse_statement(envelope.body)
        holder = find_holder(state, statement, parse_predicate(statement), envelope.keyid)
        open_envelope(envelope, statement, holder.enrolled)
        for ref in named:
            self._desk.objects().put(self._staged.pop(ref))

    def _say(self, said: Model) -> None:
        patience = self._channel.begin(self._frame_s)
        self._channel.send(MESSAGE, format_answer(said), patience)
        self._channel.flush(patience)

    def _refuse(self, error: CalyxError) -> None:
        patience = self._channel.begin(self._frame_s)
        self._channel.send(MESSAGE, format_refusal(error), patience)
        self._channel.flush(patience)


def _chunks(size: int) -> Iterator[int]:
    """The sizes of an object's chunks."""
    while size:
        yield min(size, CHUNK)
        size -= min(size, CHUNK)


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in chunks of 262,144, the last one shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= CHUNK:
            yield bytes(memoryview(held)[:CHUNK])
            del held[:CHUNK]
    if held:
        yield bytes(held)
