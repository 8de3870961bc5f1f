"""The ssh-agent protocol, as far as a signer needs it: list the keys, and have one of them sign.

    frame        uint32 length, then that many bytes of message: a type byte and its contents
    11           list the keys
    12 answer    uint32 count, count times: string blob, string comment
    13           sign: string blob, string data, uint32 flags
    14 answer    string signature
    5  answer    the agent refuses

Nothing here opens a socket: `SshAgent` is given what carries a message to the agent and its answer back. An agent's
answer proves nothing; whoever uses a signature checks it.

Source: RFC 9987 sections 3, 4.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from keys.errors import CalyxError, FormatError, Unavailable
from keys.openssh_public import HARDWARE, OpenSshKey, parse_blob
from keys.wire import Reader, string, u32
from keys.words import counted

MAX_MESSAGE: Final = 256 * 1024
"""Bytes of a message without its length, as in OpenSSH."""
MAX_KEYS: Final = 2048
MAX_COMMENT: Final = 1024
LENGTH_SIZE: Final = 4

_FAILURE: Final = 5
_LIST: Final = 11
_KEYS: Final = 12
_SIGN: Final = 13
_SIGNATURE: Final = 14
# Flags choose the hash of RSA signatures; Ed25519 has none to choose.
_NO_FLAGS: Final = 0
_WHAT: Final = "the ssh-agent's answer"
_ASKED: Final = "a request to an ssh-agent"


@dataclass(frozen=True, slots=True)
class Identity:
    """A key of any type, as an agent lists it: its public key blob and the comment that it was added with."""

    blob: bytes
    comment: bytes


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A key of a type that can sign here. `comment`: the agent's own words; escape them before they are shown."""

    key: OpenSshKey
    comment: str


@dataclass(frozen=True, slots=True)
class SignRequest:
    """What an agent is asked to sign. `blob`: the public key of the key that shall sign."""

    blob: bytes
    data: bytes


def format_frame(message: bytes) -> bytes:
    """A message of at most 256 KiB with its length before it. Raises: FormatError (`too_large`)."""
    if len(message) > MAX_MESSAGE:
        raise FormatError(f"{_ASKED} is over the limit of {MAX_MESSAGE} bytes", code="too_large")
    return string(message)


def parse_length(head: bytes) -> int:
    """The length, 1 to 256 KiB, of the message that follows these 4 bytes. Raises: FormatError (`bad_agent_answer`)."""
    length = int.from_bytes(head, "big")
    if len(head) != LENGTH_SIZE or not 0 < length <= MAX_MESSAGE:
        raise _broken(f"{_WHAT} has {counted(length, 'byte')}, not 1 to {MAX_MESSAGE}")
    return length


def format_list_request() -> bytes:
    """The message that asks for the keys."""
    return bytes([_LIST])


def format_identities(identities: Iterable[Identity]) -> bytes:
    """An agent's answer with its keys."""
    listed = list(identities)
    return bytes([_KEYS]) + u32(len(listed)) + b"".join(string(i.blob) + string(i.comment) for i in listed)


def parse_identities(message: bytes) -> list[Identity]:
    """Every key that an agent lists, of whatever type: at most 2,048. Inverse of `format_identities`.

    Raises: Unavailable (`agent_refused`); FormatError (`bad_agent_answer`).
    """
    reader = _open_answer(message, _KEYS, "list its keys")
    try:
        count = reader.u32()
        if count > MAX_KEYS:
            raise FormatError(f"{_WHAT} lists {counted(count, 'key')}, and {MAX_KEYS} is the limit")
        identities = [Identity(reader.string(), reader.string()) for _ in range(count)]
        reader.end()
    except FormatError as error:
        raise _broken(error.message) from None
    return identities


def format_sign_request(request: SignRequest) -> bytes:
    """The message that asks for a signature."""
    return bytes([_SIGN]) + string(request.blob) + string(request.data) + u32(_NO_FLAGS)


def parse_sign_request(message: bytes) -> SignRequest:
    """What a message asks an agent to sign. Inverse of `format_sign_request`. Raises: FormatError."""
    reader = Reader(message, _ASKED)
    if reader.u8() != _SIGN:
        raise FormatError(f"{_ASKED} does not ask for a signature")
    request = SignRequest(reader.string(), reader.string())
    if reader.u32() != _NO_FLAGS:
        raise FormatError(f"{_ASKED} has flags, and an Ed25519 key knows none")
    reader.end()
    return request


def format_signature(signature: bytes) -> bytes:
    """An agent's answer with a signature."""
    return bytes([_SIGNATURE]) + string(signature)


def parse_signature(message: bytes) -> bytes:
    """The signature that an agent answered with; its own contents are not looked at. Inverse of `format_signature`.

    Raises: Unavailable (`agent_refused`); FormatError (`bad_agent_answer`).
    """
    reader = _open_answer(message, _SIGNATURE, "sign")
    try:
        signature = reader.string()
        reader.end()
    except FormatError as error:
        raise _broken(error.message) from None
    return signature


def asks_to_sign(message: bytes) -> bool:
    """Whether a request may have to wait for a person: a touch, a PIN, a confirmation."""
    return message[:1] == bytes([_SIGN])


class SshAgent:
    """An ssh-agent behind `exchange`, which carries one message there and its answer back, both without length."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange: Final = exchange

    def list_keys(self) -> list[AgentKey]:
        """The agent's keys that can sign here, in its order, each once.

        Skipped are other types (RSA, ECDSA, certificates), keys of web sites' tokens, and points that are no key.

        Raises: Unavailable (`agent_refused`); FormatError (`bad_agent_answer`); as `exchange`.
        """
        found: dict[bytes, AgentKey] = {}
        for identity in parse_identities(self._exchange(format_list_request())):
            try:
                key = parse_blob(identity.blob)
            except CalyxError:
                continue
            found.setdefault(key.blob, AgentKey(key, identity.comment[:MAX_COMMENT].decode("utf-8", "replace")))
        return list(found.values())

    def sign(self, key: OpenSshKey, data: bytes) -> bytes:
        """The agent's signature over `data`, as it came: nothing about it is checked.

        Raises: Unavailable (`agent_refused`); FormatError (`bad_agent_answer`); as `exchange`.
        """
        try:
            return parse_signature(self._exchange(format_sign_request(SignRequest(key.blob, data))))
        except Unavailable as error:
            if error.code != "agent_refused":
                raise
            token = ", that its token is plugged in and was touched" if key.type == HARDWARE else ""
            raise Unavailable(
                error.code,
                error.message,
                hint=f"see with ssh-add -l that it holds the key and is not locked (ssh-add -X){token}; nothing was "
                "signed",
            ) from None


def _open_answer(message: bytes, wanted: int, deed: str) -> Reader:
    reader = Reader(message, _WHAT)
    kind = message[0] if message else None
    if kind == _FAILURE:
        raise Unavailable("agent_refused", f"the ssh-agent refused to {deed}", hint="look at it with ssh-add -l")
    if kind != wanted:
        raise _broken(f"{_WHAT} is of type {kind}, not {wanted}")
    reader.u8()
    return reader


def _broken(message: str) -> FormatError:
    return FormatError(message, code="bad_agent_answer", hint="is SSH_AUTH_SOCK the socket of an ssh-agent?")
