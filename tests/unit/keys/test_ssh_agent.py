"""The agent protocol without a socket, and every wrong signature that an agent may give, refused by its code."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from agents import Held, answering, held_token, plain_blob, plain_signature, token_of
from authenticator import TOUCHED, VERIFIED, field, to_sign
from refusal import refused

from keys import sshsig
from keys.openssh import PrivateKey, parse_blob
from keys.signer import AgentSigner, PersonKey
from keys.ssh_agent import MAX_KEYS, MAX_MESSAGE, SshAgent, format_frame, parse_length

SEED = b"\x21" * 32
OTHER = b"\x22" * 32
PAE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
NAMESPACE = sshsig.NAMESPACE_APPROVAL
TOKEN = token_of()
ORDER = 2**252 + 27742317777372353535851937790883648493


def agent_of(*held: Held) -> SshAgent:
    respond = answering(*held)
    return SshAgent(lambda request: (respond(request) or b"")[4:])


def saying(answer: bytes) -> SshAgent:
    return SshAgent(lambda _: answer)


def signer(held: Held, *, user_verification: bool = False) -> AgentSigner:
    return AgentSigner(PersonKey("ada", parse_blob(held.blob), user_verification), agent_of(held))


def test_keys_are_listed_in_the_agents_order_each_once() -> None:
    one, two = Held(plain_blob(SEED), lambda _: None), held_token(TOKEN)
    listed = agent_of(two, one, two).list_keys()
    assert [key.key.blob for key in listed] == [TOKEN.blob, plain_blob(SEED)]
    assert [key.comment for key in listed] == ["my token", "a key"]


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff\xff\xff\xff",
        field(b"ssh-rsa") + field(b"\x01\x00\x01") + field(b"\x00" * 257),
        field(b"ecdsa-sha2-nistp256") + field(b"nistp256") + field(b"\x04" + b"\x01" * 64),
        field(b"sk-ecdsa-sha2-nistp256@openssh.com"),
        field(b"ssh-ed25519-cert-v01@openssh.com") + field(b"\x01" * 32),
        plain_blob(OTHER) + b"\x00",
        field(b"ssh-ed25519") + field(b"\x01" + bytes(31)),
        field(b"sk-ssh-ed25519@openssh.com") + field(token_of().raw) + field(b"example.org"),
        field(b"sk-ssh-ed25519@openssh.com") + field(token_of().raw) + field(b"ssh:\x1b[2J"),
    ],
    ids=["empty", "torn", "rsa", "ecdsa", "sk-ecdsa", "cert", "trailing", "identity-point", "web", "control"],
)
def test_key_that_cannot_sign_here_is_skipped(blob: bytes) -> None:
    odd = Held(blob, lambda _: None)
    listed = agent_of(odd, Held(plain_blob(SEED), lambda _: None), odd).list_keys()
    assert [key.key.blob for key in listed] == [plain_blob(SEED)]


def test_comment_that_is_not_text_is_shown_as_far_as_it_goes() -> None:
    (listed,) = agent_of(Held(plain_blob(SEED), lambda _: None, b"\xff\xfe" + b"x" * 5000)).list_keys()
    assert listed.comment.startswith("��x")
    assert len(listed.comment) <= 1024


KEY = field(plain_blob(SEED)) + field(b"c")
COUNT = struct.pack(">I", 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x06",
        b"\x0e" + field(b"x"),
        b"\x0c",
        b"\x0c\x00\x00",
        b"\x0c" + COUNT,
        b"\x0c" + COUNT + KEY[:-1],
        b"\x0c" + COUNT + KEY + b"\x00",
        b"\x0c" + struct.pack(">I", 2) + KEY,
        b"\x0c" + struct.pack(">I", 0) + KEY,
        b"\x0c" + struct.pack(">I", MAX_KEYS + 1) + field(b"") * 2 * (MAX_KEYS + 1),
        b"\x0c" + b"\xff\xff\xff\xff",
        b"\x0c" + COUNT + b"\xff\xff\xff\xff",
        b"SSH-2.0-OpenSSH_9.2",
    ],
)
def test_malformed_list_is_refused(answer: bytes) -> None:
    with refused("bad_agent_answer"):
        saying(answer).list_keys()


@pytest.mark.parametrize("answer", [b"", b"\x0e", b"\x0e\x00\x00\x00\x05abc", b"\x0e" + field(b"x") + b"\x00", b"\x0c"])
def test_malformed_signature_answer_is_refused(answer: bytes) -> None:
    with refused("bad_agent_answer"):
        saying(answer).sign(parse_blob(plain_blob(SEED)), b"data")


@pytest.mark.parametrize("more", [b"", b"\x00", b"why not"])
def test_refusal_of_the_agent_says_so(more: bytes) -> None:
    with refused("agent_refused"):
        saying(b"\x05" + more).list_keys()
    with refused("agent_refused") as refusal:
        saying(b"\x05" + more).sign(parse_blob(TOKEN.blob), b"data")
    assert "ssh-add -X" in refusal.value.hint
    assert "touched" in refusal.value.hint


@pytest.mark.parametrize("head", [b"", b"\x00\x00\x00", bytes(4), b"\x00\x04\x00\x01", b"\xff\xff\xff\xff"])
def test_length_over_the_limit_is_refused_before_anything_is_read(head: bytes) -> None:
    with refused("bad_agent_answer"):
        parse_length(head)


def test_largest_message_is_taken_and_a_larger_request_is_not_sent() -> None:
    assert parse_length(format_frame(bytes(MAX_MESSAGE))[:4]) == MAX_MESSAGE
    with refused("too_large"):
        format_frame(bytes(MAX_MESSAGE + 1))


def test_signature_of_a_plain_key_is_the_one_that_its_file_makes() -> None:
    held = Held(plain_blob(SEED), lambda data: plain_signature(SEED, data))
    assert signer(held).sign(PAE, NAMESPACE) == sshsig.sign(PrivateKey(SEED), NAMESPACE, PAE)


@pytest.mark.parametrize("verified", [False, True])
def test_touched_token_signs(verified: bool) -> None:
    flags = TOUCHED | VERIFIED if verified else TOUCHED
    blob = signer(held_token(TOKEN, flags=flags), user_verification=verified).sign(PAE, NAMESPACE)
    assert blob == TOKEN.sign(NAMESPACE, PAE, flags=flags)
    assert sshsig.parse_blob(blob).counter == 7


def test_person_is_told_before_the_token_waits() -> None:
    order: list[str] = []

    def sign(data: bytes) -> bytes:
        order.append("signed")
        return TOKEN.assertion(data)

    agent = agent_of(held_token(TOKEN, sign))
    key = PersonKey("ada", parse_blob(TOKEN.blob), False)
    AgentSigner(key, agent, lambda: order.append("told")).sign(PAE, NAMESPACE)
    assert order == ["told", "signed"]


def token_saying(sign: Callable[[bytes], bytes | None]) -> Held:
    return held_token(TOKEN, sign)


def add_order(inner: bytes) -> bytes:
    """The same signature with the group's order added to its second half."""
    at = len(inner) - 32
    half = int.from_bytes(inner[at:], "little") + ORDER
    return inner[:at] + half.to_bytes(32, "little")


WRONG_TOKENS: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "no touch": ("user_absent", lambda data: TOKEN.assertion(data, flags=0)),
    "verified and no touch": ("user_absent", lambda data: TOKEN.assertion(data, flags=VERIFIED)),
    "another application": ("bad_signature", lambda data: TOKEN.assertion(data, application=b"ssh:other")),
    "a web site": ("bad_signature", lambda data: TOKEN.assertion(data, application=b"example.org")),
    "another message": ("bad_signature", lambda data: TOKEN.assertion(data + b"x")),
    "another namespace": ("bad_signature", lambda _: TOKEN.assertion(to_sign("git", PAE))),
    "raw message": ("bad_signature", lambda _: TOKEN.assertion(PAE)),
    "another token": ("bad_signature", lambda data: token_of(0x33).assertion(data)),
    "plain signature": ("bad_format", lambda data: plain_signature(TOKEN.seed, data)),
    "plain posing as token": (
        "bad_signature",
        lambda data: (
            field(b"sk-ssh-ed25519@openssh.com") + plain_signature(TOKEN.seed, data)[15:] + b"\x01\x00\x00\x00\x07"
        ),
    ),
    "flags changed afterwards": (
        "bad_signature",
        lambda data: TOKEN.assertion(data, flags=0)[:-5] + b"\x01\x00\x00\x00\x07",
    ),
    "counter changed afterwards": ("bad_signature", lambda data: TOKEN.assertion(data)[:-1] + b"\x08"),
    "no counter": ("bad_format", lambda data: TOKEN.assertion(data)[:-4]),
    "trailing byte": ("bad_format", lambda data: TOKEN.assertion(data) + b"\x00"),
    "nothing": ("bad_format", lambda _: b""),
    "a signature of 2 KiB": ("too_large", lambda _: field(b"sk-ssh-ed25519@openssh.com") + field(bytes(2048))),
    "webauthn": ("bad_format", lambda data: field(b"webauthn-sk-ecdsa-sha2-nistp256@openssh.com") + field(data)),
}


@pytest.mark.parametrize("name", list(WRONG_TOKENS))
def test_wrong_signature_of_a_token_is_refused(name: str) -> None:
    code, sign = WRONG_TOKENS[name]
    with refused(code) as refusal:
        signer(token_saying(sign)).sign(PAE, NAMESPACE)
    assert "ssh-agent's signature" in refusal.value.message
    assert "nothing was recorded" in refusal.value.hint


def test_touch_alone_is_refused_where_the_trust_root_asks_for_verification() -> None:
    with refused("user_unverified"):
        signer(held_token(TOKEN), user_verification=True).sign(PAE, NAMESPACE)


WRONG_PLAIN: dict[str, tuple[str, Callable[[bytes], bytes | None]]] = {
    "another key": ("bad_signature", lambda data: plain_signature(OTHER, data)),
    "another message": ("bad_signature", lambda data: plain_signature(SEED, data + b"x")),
    "raw message": ("bad_signature", lambda _: plain_signature(SEED, PAE)),
    "namespace file": ("bad_signature", lambda _: plain_signature(SEED, to_sign("file", PAE))),
    "token posing as plain": ("bad_format", lambda data: token_of(0x21).assertion(data)),
    "token's bytes posing as plain": (
        "bad_signature",
        lambda data: field(b"ssh-ed25519") + token_of(0x21).assertion(data)[30:-5],
    ),
    "order added": ("bad_signature", lambda data: add_order(plain_signature(SEED, data))),
    "rsa": ("bad_format", lambda data: field(b"rsa-sha2-512") + field(bytes(256))),
    "63 bytes": ("bad_format", lambda data: field(b"ssh-ed25519") + field(bytes(63))),
    "zeros": ("bad_signature", lambda data: field(b"ssh-ed25519") + field(bytes(64))),
    "trailing byte": ("bad_format", lambda data: plain_signature(SEED, data) + b"\x00"),
}


@pytest.mark.parametrize("name", list(WRONG_PLAIN))
def test_wrong_signature_of_a_plain_key_is_refused(name: str) -> None:
    code, sign = WRONG_PLAIN[name]
    with refused(code):
        signer(Held(plain_blob(SEED), sign)).sign(PAE, NAMESPACE)


def test_agent_that_refuses_to_sign_leaves_nothing() -> None:
    with refused("agent_refused"):
        signer(Held(plain_blob(SEED), lambda _: None)).sign(PAE, NAMESPACE)


def test_signer_of_an_agent_shows_no_more_than_names() -> None:
    found = signer(held_token(TOKEN))
    assert repr(found) == f"AgentSigner(ada, {found.keyid})"
