"""Forgeries of signatures, and keys that nobody may enrol."""

from __future__ import annotations

import base64
from collections.abc import Callable
from hashlib import sha256, sha512
from typing import Any

from authenticator import frame, to_sign
from forging import KEYS, LOG_KEY, TOKEN, Forge, key_line, person, trust
from reject_law import MESSAGE
from reject_registry import add, reject
from reject_statements import APPROVAL, ORDER, STATEMENT

from keys import sshsig
from keys.openssh import fingerprint
from keys.openssh_public import OpenSshKey
from ledger.envelope import Envelope, pae

# Signatures.


def _sign(
    name: str, what: str, code: str, change: Callable[[Forge, Envelope], bytes], who: str = "ada", moment: str = "lease"
) -> None:
    def doing(f: Forge) -> None:
        approve = who in {"tok", "ben"}
        fields = {"role": "approver", "review": None} if approve else MESSAGE
        kind = "cosignature" if approve else "message"
        honest = f.sign(who, kind, f.body(kind, {**f.common(who), **fields}, f.it if approve else None))
        sig = change(f, honest)
        assert sig != honest.sig
        f.force(Envelope(honest.body, honest.keyid, sig))

    add(f"signature_{name}", what, moment, code, doing)


def _flip(at: int) -> Callable[[Forge, Envelope], bytes]:
    def change(_: Forge, envelope: Envelope) -> bytes:
        data = bytearray(envelope.sig)
        data[at] ^= 1
        return bytes(data)

    return change


def _malleable(sig: bytes) -> bytes:
    return sig[:32] + (int.from_bytes(sig[32:], "little") + ORDER).to_bytes(32, "little")


def _with_identity(_: Forge, envelope: Envelope) -> bytes:
    """The equation holds with the identity for R: whoever has the key can make it."""
    signing, message = KEYS["cbo"]._signing, pae(envelope.body)
    secret = int.from_bytes(sha512(signing.seed).digest()[:32], "little") & ~7 & 2**254 - 1 | 2**254
    r = b"\1" + bytes(31)
    challenge = int.from_bytes(sha512(r + KEYS["cbo"].public.raw + message).digest(), "little")
    return r + (challenge * secret % ORDER).to_bytes(32, "little")


def _inner(envelope: Envelope) -> bytes:
    return envelope.sig[-83:]


def _framed(**changes: Any) -> Callable[[Forge, Envelope], bytes]:
    def change(_: Forge, envelope: Envelope) -> bytes:
        return frame(KEYS["ada"].public.blob, STATEMENT, _inner(envelope), **changes)

    return change


def _by(name: str, namespace: str = STATEMENT) -> Callable[[Forge, Envelope], bytes]:
    return lambda _, envelope: sshsig.sign(KEYS[name], namespace, pae(envelope.body))


_sign("of_a_machine_flipped", "A bit of a machine's signature is flipped.", "bad_signature", _flip(5), "cbo")
_sign("of_a_machine_cut", "A machine's signature has 63 bytes.", "bad_signature", lambda f, e: e.sig[:-1], "cbo")
_sign("of_a_machine_longer", "A machine's signature has 65 bytes.", "bad_signature", lambda f, e: e.sig + b"\0", "cbo")
_sign(
    "of_a_machine_malleable",
    "The order of the group is added to S.",
    "bad_signature",
    lambda f, e: _malleable(e.sig),
    "cbo",
)
_sign(
    "of_a_machine_by_another",
    "A machine's signature is by another key.",
    "bad_signature",
    lambda f, e: KEYS["cp14"].sign_raw(pae(e.body)),
    "cbo",
)
_sign(
    "of_a_machine_over_the_body",
    "A machine signed the statement without its preamble.",
    "bad_signature",
    lambda f, e: KEYS["cbo"].sign_raw(e.body),
    "cbo",
)
_sign("of_a_machine_as_a_person", "A machine signed as people do.", "bad_signature", _by("cbo"), "cbo")
_sign(
    "of_a_machine_with_r_of_order_one",
    "R is the identity, and S is zero.",
    "bad_signature",
    lambda f, e: b"\1" + bytes(63),
    "cbo",
)
_sign(
    "of_a_machine_with_r_of_order_one_that_fits",
    "R is the identity, and S fits it.",
    "bad_signature",
    _with_identity,
    "cbo",
)
_sign(
    "of_a_person_as_a_machine",
    "A person signed as machines do.",
    "bad_format",
    lambda f, e: KEYS["ada"].sign_raw(pae(e.body)),
)
_sign("of_a_person_flipped", "A bit of a person's signature is flipped.", "bad_signature", _flip(-5))
_sign(
    "of_a_person_malleable",
    "The order of the group is added to S.",
    "bad_signature",
    lambda f, e: e.sig[:-64] + _malleable(e.sig[-64:]),
)
_sign("of_a_person_by_another", "The signature is by another key, and says so.", "wrong_key", _by("ben"))
_sign(
    "of_a_person_by_another_hidden",
    "The signature is by another key, and does not say so.",
    "bad_signature",
    lambda f, e: e.sig[:-64] + _by("ben")(f, e)[-64:],
)
_sign("for_approval", "A message is signed in the namespace of approval.", "wrong_namespace", _by("ada", APPROVAL))
_sign(
    "of_approval_as_statement",
    "An approval is signed in the namespace of statements.",
    "wrong_namespace",
    _by("ben"),
    "ben",
)
_sign("in_the_namespace_of_git", "It is signed as a commit.", "wrong_namespace", _by("ada", "git"))
_sign("of_version_2", "An SSHSIG of version 2.", "bad_format", _framed(version=2))
_sign("with_reserved", "Its reserved field is not empty.", "bad_format", _framed(reserved=b"x"))
_sign("with_sha256", "Its hash is sha256.", "bad_format", _framed(hash_name=b"sha256"))
_sign("with_something_behind", "A byte follows the signature.", "bad_format", lambda f, e: e.sig + b"\0")
_sign("cut", "The last byte of the blob is missing.", "bad_format", lambda f, e: e.sig[:-1])
_sign("without_magic", "It does not begin with SSHSIG.", "bad_format", lambda f, e: b"SSHSIX" + e.sig[6:])
_sign(
    "as_armor",
    "The armor of ssh-keygen stands in place of the blob.",
    "bad_format",
    lambda f, e: sshsig.format_armor(e.sig).encode(),
)
_sign(
    "over_another_statement",
    "The signature is over another statement.",
    "bad_signature",
    lambda f, e: sshsig.sign(KEYS["ada"], STATEMENT, pae(e.body + b" ")),
)


def _token(**changes: Any) -> Callable[[Forge, Envelope], bytes]:
    return lambda _, envelope: TOKEN.sign(APPROVAL, pae(envelope.body), **changes)


def _asking(f: Forge) -> None:
    keys = [{"key": key_line("tok"), "user_verification": True}]
    people = [person(each["id"], keys=keys) if each["id"] == "tok" else each for each in trust()["principals"]]
    f.now += 1
    f.enact("trust", trust(principals=people))


_sign("without_touch", "The token was not touched.", "user_absent", _token(flags=4), "tok")
_sign("with_another_counter", "The counter is not the one that was signed.", "bad_signature", _flip(-1), "tok")
_sign(
    "with_another_flag",
    "The flags are not those that were signed.",
    "bad_signature",
    lambda f, e: e.sig[:-5] + b"\5" + e.sig[-4:],
    "tok",
)
_sign(
    "for_a_web_site",
    "The token signed for another application.",
    "bad_signature",
    lambda f, e: frame(TOKEN.blob, APPROVAL, TOKEN.assertion(_to_sign(e), application=b"web")),
    "tok",
)
_sign(
    "without_flags",
    "Flags and counter are missing.",
    "bad_format",
    lambda f, e: frame(TOKEN.blob, APPROVAL, e.sig[-102:][: 30 + 68]),
    "tok",
)


def _to_sign(envelope: Envelope) -> bytes:
    return to_sign(APPROVAL, pae(envelope.body))


@reject("lease", "user_unverified")
def signature_without_verification(f: Forge) -> None:
    """The token did not verify its user, and the root asks for it."""
    _asking(f)
    body = f.body("cosignature", {**f.common("tok"), "role": "approver", "review": None}, f.it)
    f.force(Envelope(body, fingerprint(OpenSshKey(TOKEN.blob)), TOKEN.sign(APPROVAL, pae(body), flags=1)))


@reject("lease", "user_absent")
def order_signature_without_touch_and_verification(f: Forge) -> None:
    """The token was not touched and did not verify its user, and the root asks for it."""
    _asking(f)
    body = f.body("cosignature", {**f.common("tok"), "role": "approver", "review": None}, f.it)
    f.force(Envelope(body, fingerprint(OpenSshKey(TOKEN.blob)), TOKEN.sign(APPROVAL, pae(body), flags=0)))


# Keys that nobody may enrol.

WEAK = {
    "identity": (1).to_bytes(32, "little"),
    "of_order_two": (2**255 - 20).to_bytes(32, "little"),
    "of_order_four": bytes(32),
    "of_order_eight": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    "not_canonical": (2**255 - 18).to_bytes(32, "little"),
    "not_on_the_curve": (2).to_bytes(32, "little"),
    "of_mixed_order": bytes.fromhex("cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"),
    "of_31_bytes": bytes(31),
}


def _weak(name: str, raw: bytes) -> None:
    def doing(f: Forge) -> None:
        blob = b"\0\0\0\x0bssh-ed25519" + len(raw).to_bytes(4, "big") + raw
        line = "ssh-ed25519 " + base64.b64encode(blob).decode()
        entry = {"key": line, "user_verification": False}
        f.forge(
            "ada",
            "genesis",
            f.genesis_fields(trust=trust("ada", "ben", principals=[person("ada"), person("ben", keys=[entry])])),
        )

    def as_log(f: Forge) -> None:
        origin = LOG_KEY.origin
        key_id = sha256(origin.encode() + b"\n\x01" + raw).hexdigest()[:8]
        encoded = base64.b64encode(b"\x01" + raw).decode()
        vkey = f"{origin}+{key_id}+{encoded}"
        f.forge("ada", "genesis", f.genesis_fields(log_key=vkey, trust=trust("ada", "ben")))

    add(f"key_{name}", f"A key is {name.replace('_', ' ')}.", "nothing", "bad_format", doing)
    if len(raw) == 32:
        add(f"log_key_{name}", f"The log's key is {name.replace('_', ' ')}.", "nothing", "bad_key", as_log)


for _name, _raw in WEAK.items():
    _weak(_name, _raw)


@reject("nothing", "bad_format")
def key_for_a_web_site(f: Forge) -> None:
    """The application of a hardware key does not begin with ssh:."""
    blob = TOKEN.blob.replace(b"\0\0\0\x04ssh:", b"\0\0\0\x04web:")
    line = "sk-ssh-ed25519@openssh.com " + base64.b64encode(blob).decode()
    keys = [{"key": line, "user_verification": False}]
    f.forge(
        "ada",
        "genesis",
        f.genesis_fields(
            trust=trust("ada", "ben", principals=[person("ada"), person("ben"), person("tok", keys=keys)])
        ),
    )


@reject("nothing", "bad_format")
def key_of_another_type_inside(f: Forge) -> None:
    """A key line says that it is a plain key, and holds a hardware key."""
    line = key_line("tok").replace("sk-ssh-ed25519@openssh.com", "ssh-ed25519", 1)
    people = [person("ada"), person("ben"), person("dan", keys=[{"key": line, "user_verification": False}])]
    f.forge("ada", "genesis", f.genesis_fields(trust=trust("ada", "ben", principals=people)))


@reject("nothing", "bad_format")
def key_of_an_unknown_type_inside(f: Forge) -> None:
    """A key line says that it is a plain key, and its blob names a type that there is not."""
    kind, _, text = key_line("dan").partition(" ")
    blob = base64.b64decode(text).replace(b"ssh-ed25519", b"ssh-ed25518")
    keys = [{"key": f"{kind} {base64.b64encode(blob).decode()}", "user_verification": False}]
    people = [person("ada"), person("ben"), person("dan", keys=keys)]
    f.forge("ada", "genesis", f.genesis_fields(trust=trust("ada", "ben", principals=people)))


def _unknown_type(_: Forge, envelope: Envelope) -> bytes:
    """The key of the signature is of a type that there is not."""
    blob, inner = (each.replace(b"ssh-ed25519", b"ssh-ed25518") for each in (KEYS["ada"].public.blob, _inner(envelope)))
    return frame(blob, STATEMENT, inner)


def _another_type(_: Forge, envelope: Envelope) -> bytes:
    """The inner signature says that it is a token's."""
    inner = _inner(envelope).replace(b"\0\0\0\x0bssh-ed25519", b"\0\0\0\x1ask-ssh-ed25519@openssh.com", 1)
    return frame(KEYS["ada"].public.blob, STATEMENT, inner)


_sign("of_another_type_inside", "The signature inside is of another type than its key.", "bad_format", _another_type)
_sign(
    "of_an_unknown_type", "The signature's key is of an unknown type, in both places.", "unsupported_key", _unknown_type
)
