"""Forgeries of bytes: statements, envelopes and signatures, records, the chain, the checkpoint, and objects."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from authenticator import frame, to_sign
from forging import KEYS, LOG_KEY, TOKEN, Forge, after, checkpoint_of, digest_of, key_line, names, person, trust
from reject_law import MESSAGE, other_log
from reject_registry import Doing, add, reject
from reject_stories import sample_fields

from keys import sshsig
from keys.canonical import format_json
from keys.openssh import fingerprint
from keys.openssh_public import OpenSshKey
from ledger.envelope import Envelope, format_envelope_bytes, pae
from ledger.note import sign_note
from ledger.record import make_record
from ledger.verified import namespace_of

STATEMENT, APPROVAL = namespace_of("message"), namespace_of("cosignature")
ORDER = 2**252 + 27742317777372353535851937790883648493

# Statements, as bytes. All are signed as they stand.


def _bytes(name: str, what: str, code: str, change: Callable[[bytes], bytes]) -> None:
    def doing(f: Forge) -> None:
        # Its subject is the lease and not itself, so that nothing in it depends on the bytes that are changed.
        body = f.body("objection", {**f.common("ada"), "verb": "withdraw", "reason": "a test"}, f.it)
        changed = change(body)
        assert changed != body
        f.force(f.sign("ada", "objection", changed))

    add(f"statement_{name}", what, "lease", code, doing)


def _swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda body: body.replace(old, new, 1)


def _deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


TEXT, VERB = b'"reason":"a test"', b'"verb":"withdraw"'
_bytes("with_a_space", "A space behind a colon.", "not_canonical", _swap(b'"_type":', b'"_type": '))
_bytes("with_a_newline", "A newline at its end.", "not_canonical", lambda body: body + b"\n")
_bytes(
    "with_a_field_twice",
    "A field stands twice, with two values.",
    "not_canonical",
    _swap(TEXT, b'"reason":"another",' + TEXT),
)
_bytes(
    "with_a_field_twice_the_same",
    "A field stands twice, with one value.",
    "not_canonical",
    _swap(TEXT, TEXT + b"," + TEXT),
)
_bytes(
    "not_sorted",
    "Two fields stand in the other order.",
    "not_canonical",
    _swap(b'"reason":"a test","verb":"withdraw"', b'"verb":"withdraw","reason":"a test"'),
)
_bytes("with_an_escape", "A letter is escaped.", "not_canonical", _swap(TEXT, b'"reason":"\\u0061 test"'))
_bytes("with_a_slash_escaped", "A slash is escaped.", "not_canonical", _swap(b"https:/", b"https:\\/"))
_bytes(
    "with_a_long_escape",
    "A newline is escaped by its number.",
    "not_canonical",
    _swap(TEXT, b'"reason":"a\\u000atest"'),
)
_bytes(
    "with_capital_escape",
    "A control character is escaped in capitals.",
    "not_canonical",
    _swap(TEXT, b'"reason":"a\\u001Ftest"'),
)
_bytes(
    "with_a_raw_control_character",
    "A control character is not escaped.",
    "bad_format",
    _swap(TEXT, b'"reason":"a\x01test"'),
)
_bytes("with_a_lone_surrogate", "Half of a surrogate pair.", "bad_format", _swap(TEXT, b'"reason":"\\ud800"'))
_bytes("not_utf_8", "A byte that is not UTF-8.", "bad_format", _swap(TEXT, b'"reason":"\xff"'))
_bytes("overlong_utf_8", "A slash in two bytes.", "bad_format", _swap(TEXT, b'"reason":"\xc0\xaf"'))
_bytes("with_a_byte_order_mark", "A byte order mark before it.", "bad_format", lambda body: b"\xef\xbb\xbf" + body)
_bytes("in_utf_16", "It is in UTF-16.", "bad_format", lambda body: body.decode().encode("utf-16-be"))
_bytes("with_a_comma_more", "A comma behind the last field.", "bad_format", _swap(TEXT, TEXT + b","))
_bytes("cut", "Its last byte is missing.", "bad_format", lambda body: body[:-1])
_bytes("with_a_float", "A size with a fraction of zero.", "bad_format", _swap(b'"size":7', b'"size":7.0'))
_bytes("with_an_exponent", "A size with an exponent.", "bad_format", _swap(b'"size":7', b'"size":7e0'))
_bytes("with_a_leading_zero", "A size with a leading zero.", "bad_format", _swap(b'"size":7', b'"size":04'))
_bytes("with_a_negative_number", "A size below zero.", "bad_format", _swap(b'"size":7', b'"size":-4'))
_bytes("with_2_to_the_53", "A size of 2^53.", "bad_format", _swap(b'"size":7', b'"size":9007199254740992'))
_bytes("with_2_to_the_64", "A size of 2^64.", "bad_format", _swap(b'"size":7', b'"size":18446744073709551616'))
_bytes(
    "with_2_to_the_53_less_1",
    "A size of 2^53-1, which no ledger has.",
    "head_contradicted",
    _swap(b'"size":7', b'"size":9007199254740991'),
)
_bytes("with_not_a_number", "A size that is not a number.", "bad_format", _swap(b'"size":7', b'"size":NaN'))
_bytes(
    "of_depth_17",
    "A field more, 15 arrays deep: 17 levels in all.",
    "too_deep",
    _swap(VERB, VERB + b',"z":' + _deep(15)),
)
_bytes(
    "of_depth_16",
    "A field more, 14 arrays deep: 16 levels in all, and only the field is wrong.",
    "bad_format",
    _swap(VERB, VERB + b',"z":' + _deep(14)),
)
_bytes("of_depth_20000", "20,000 arrays in each other.", "too_deep", lambda body: _deep(20_000))
_bytes("with_a_key_not_ascii", "A field whose name is not ASCII.", "bad_format", _swap(VERB, VERB + b',"\xc3\xbc":1'))
_bytes(
    "of_another_type", "Its _type is that of Statement v0.1.", "bad_format", _swap(b"Statement/v1", b"Statement/v0.1")
)
_bytes(
    "of_an_unknown_kind",
    "Its predicate type names an unknown kind.",
    "unknown_kind",
    _swap(b"calyx/objection/v1", b"calyx/objections/v1"),
)
_bytes(
    "of_another_version",
    "Its predicate type is of version 2.",
    "unknown_kind",
    _swap(b"calyx/objection/v1", b"calyx/objection/v2"),
)
_bytes(
    "of_another_host",
    "Its predicate type is of another place.",
    "unknown_kind",
    _swap(b"https://station.calyx/", b"http://station.calyx/"),
)
_bytes("with_a_member_more", "A fifth member.", "bad_format", _swap(b'"subject":', b'"sub":1,"subject":'))
_bytes("without_subject", "It has no subject.", "bad_format", lambda body: body[: body.index(b',"subject"')] + b"}")
_bytes(
    "with_two_subjects",
    "It has two subjects.",
    "bad_format",
    lambda body: body[:-2] + b"," + body[body.index(b'"subject":[') + 11 :],
)
_bytes(
    "with_two_digests", "Its subject has a SHA-512, too.", "bad_format", _swap(b'{"sha256":', b'{"sha1":"","sha256":')
)
_bytes(
    "whose_predicate_is_text",
    "Its predicate is text.",
    "bad_format",
    lambda body: body.replace(body[body.index(b'"predicate":') + 12 : body.index(b',"predicateType"')], b'"text"'),
)
_bytes("that_is_an_array", "It is an array.", "bad_format", lambda body: b"[]")
_bytes("that_is_null", "It is null.", "bad_format", lambda body: b"null")


@reject("fleet", "bad_format")
def statement_about_another(f: Forge) -> None:
    """Its subject is not the digest of its predicate."""
    body = f.body("message", {**f.common("ada"), **MESSAGE})
    f.force(f.sign("ada", "message", body.replace(b"a test", b"A test")))


@reject("fleet", "bad_format")
def statement_named_otherwise(f: Forge) -> None:
    """Its subject is named for another kind."""
    body = f.body("message", {**f.common("ada"), **MESSAGE})
    f.force(f.sign("ada", "message", body.replace(b'"name":"message"', b'"name":"intent"')))


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


# Records.


def _record(name: str, what: str, change: Callable[[Forge, bytes], bytes]) -> None:
    def doing(f: Forge) -> None:
        honest = f.fork()
        honest.say("ada", "message", MESSAGE)
        data = change(f, honest.records[-1].data)
        assert data != honest.records[-1].data
        f.force_bytes(data)

    add(f"record_{name}", what, "fleet", "broken_chain", doing)


def _in_record(old: bytes, new: bytes) -> Callable[[Forge, bytes], bytes]:
    return lambda _, data: data.replace(old, new, 1)


def _envelope(**changes: Any) -> Callable[[Forge, bytes], bytes]:
    def change(_: Forge, data: bytes) -> bytes:
        value = json.loads(data)
        value["envelope"].update(changes)
        return format_json(value)

    return change


def _signature(**changes: Any) -> Callable[[Forge, bytes], bytes]:
    def change(_: Forge, data: bytes) -> bytes:
        value = json.loads(data)
        value["envelope"]["signatures"][0].update(changes)
        return format_json(value)

    return change


def _twice(_: Forge, data: bytes) -> bytes:
    value = json.loads(data)
    value["envelope"]["signatures"] *= 2
    return format_json(value)


_record("with_a_space", "A space behind a colon.", _in_record(b'"seq":', b'"seq": '))
_record("with_a_field_more", "A field more.", _in_record(b'"seq":', b'"s":1,"seq":'))
_record("without_time", "It has no time.", lambda f, data: data[: data.index(b',"time"')] + b"}")
_record("with_seq_as_text", "Its seq is text.", _in_record(b'"seq":4', b'"seq":"4"'))
_record("with_another_seq", "Its seq is the next one.", _in_record(b'"seq":4', b'"seq":5'))
_record("with_a_leading_zero", "Its seq has a leading zero.", _in_record(b'"seq":4', b'"seq":04'))
_record(
    "at_a_time_that_does_not_exist",
    "Its time is on 30 February.",
    _in_record(b'"time":"2026-01-05', b'"time":"2026-02-30'),
)
_record(
    "before_the_one_before",
    "Its time is a second before that of the entry before it.",
    lambda f, data: data.replace(after(f.now, 0).encode() + b'"}', after(f.now, -1).encode() + b'"}'),
)
_record("with_a_signature_more", "It has two signatures.", _twice)
_record("without_signature", "It has no signature.", _envelope(signatures=[]))
_record("of_another_payload_type", "Its payload type is text.", _envelope(payloadType="text/plain"))
_record("with_an_envelope_field_more", "Its envelope has a field more.", _envelope(x=1))
_record("with_an_empty_payload", "Its payload is empty.", _envelope(payload=""))
_record("with_an_empty_signature", "Its signature is empty.", _signature(sig=""))
_record("with_a_signature_too_long", "Its signature has 4,100 characters.", _signature(sig="A" * 4100))
_record("with_a_key_id_of_another_form", "Its key id is an MD5 fingerprint.", _signature(keyid="MD5:00:11"))
_record("with_a_padded_key_id", "Its key id is padded.", _signature(keyid=fingerprint(KEYS["ada"].public) + "="))
_record(
    "with_spare_bits_in_its_key_id",
    "The last digit of its key id has a spare bit.",
    _signature(keyid="SHA256:" + "A" * 42 + "B"),
)
_record("with_url_safe_base64", "Its signature is in the alphabet for addresses.", _signature(sig="-_-_"))
_record("with_unpadded_base64", "Its signature lacks its padding.", _signature(sig="AA"))
_record("with_spare_bits", "Its signature has spare bits.", _signature(sig="AB=="))
_record("with_base64_in_lines", "Its signature has a newline.", _signature(sig="AAAA\nAAAA"))
_record("that_is_no_json", "Its bytes are no JSON.", lambda f, data: b"\xff\xfe")
_record("that_is_empty", "It has no bytes.", lambda f, data: b"")


@reject("fleet", "broken_chain")
def record_of_more_than_65535_bytes(f: Forge) -> None:
    """A lease with so many long paths that its record has over 65,535 bytes; it is lawful but for that."""
    envelope = long_lease(f, 1)
    data = b'{"envelope":%b,"prev":"%b","seq":%d,"time":"%b"}' % (
        format_envelope_bytes(envelope), f.head.hash.encode(), f.head.size, after(f.now, 0).encode(),
    )  # fmt: skip
    assert 65_535 < len(data) < 65_545
    f.force_bytes(data)


def long_lease(f: Forge, more: int) -> Envelope:
    """A lease whose record is as long as one may be, and `more` bytes of statement longer. Its intent is said."""
    f.intent("INT-20260105-001")
    fields = {**f.common("cbo"), **f.lease_fields(1)}

    def lease(sizes: list[int]) -> Envelope:
        paths = [f"static/{number:02}".ljust(size, "a") for number, size in enumerate(sizes)]
        return f.sign("cbo", "lease", f.body("lease", {**fields, "paths": paths}))

    short = lease([64] * 12)
    frame_size = len(make_record(f.head.size, f.head.hash, f.now, short).data) - 4 * -(-len(short.body) // 3)
    room = (65_535 - frame_size) // 4 * 3 + more - len(short.body)
    each, last = divmod(room, 12)
    return lease([64 + each] * 11 + [64 + each + last])


# The chain, the tree and the checkpoint: what shows without judging anything.


@dataclass(frozen=True)
class Broken:
    """A story of which records, checkpoint or objects are changed. `doing` gets them, and gives them back."""

    name: str
    what: str
    moment: str
    code: str
    entry: int | None
    doing: Callable[[list[bytes], bytes], tuple[list[bytes], bytes]]


BROKEN: dict[str, Broken] = {}


def _broken(
    name: str, what: str, entry: int | None, change: Any, code: str = "broken_chain", moment: str = "lease"
) -> None:
    name = name.replace("_", "-")
    BROKEN[name] = Broken(name, what, moment, code, entry, change)


def _changed(data: bytes) -> bytes:
    """The same record with another signature."""
    value = json.loads(data)
    sig = bytearray(base64.b64decode(value["envelope"]["signatures"][0]["sig"]))
    sig[-1] ^= 1
    value["envelope"]["signatures"][0]["sig"] = base64.b64encode(bytes(sig)).decode()
    return format_json(value)


def _at(place: int, change: Callable[[bytes], bytes]) -> Any:
    def doing(records: list[bytes], note: bytes) -> tuple[list[bytes], bytes]:
        place_of = place % len(records)
        return [*records[:place_of], change(records[place_of]), *records[place_of + 1 :]], note

    return doing


def _resigned(change: Callable[[list[bytes]], list[bytes]]) -> Any:
    """The same under a checkpoint that covers it."""

    def doing(records: list[bytes], note: bytes) -> tuple[list[bytes], bytes]:
        changed = change(records)
        return changed, checkpoint_of(changed)

    return doing


def _note(change: Callable[[list[bytes], bytes], bytes]) -> Any:
    return lambda records, note: (records, change(records, note))


def _other_prev(data: bytes) -> bytes:
    return format_json({**json.loads(data), "prev": digest_of(0)})


_broken("chain_changed_in_the_middle", "Entry 3 has another signature; all else is as it was.", 3, _at(3, _changed))
_broken("chain_changed_at_the_end", "The last entry has another signature.", 6, _at(-1, _changed))
_broken("chain_changed_before_the_end", "The last entry but one has another signature.", 5, _at(-2, _changed))
_broken(
    "chain_changed_at_the_end_and_confirmed",
    "The last entry but one has another signature, and a new checkpoint covers it.",
    5,
    _resigned(lambda records: [*records[:-2], _changed(records[-2]), records[-1]]),
)
_broken("chain_with_another_prev", "Entry 3 names another leaf.", 3, _at(3, _other_prev))
_broken("chain_whose_first_names_one_before", "The first entry names one before it.", 0, _at(0, _other_prev))
_broken(
    "chain_without_an_entry",
    "Entry 3 is missing, and what follows moved up.",
    3,
    lambda records, note: ([*records[:3], *records[4:]], note),
)
_broken(
    "chain_with_two_exchanged",
    "Entries 3 and 4 stand in the other order.",
    3,
    lambda records, note: ([*records[:3], records[4], records[3], *records[5:]], note),
)
_broken("chain_cut", "The last entry is missing.", 6, lambda records, note: (records[:-1], note))
_broken(
    "chain_cut_and_resigned_too_long",
    "The checkpoint covers an entry more.",
    7,
    _note(lambda records, note: checkpoint_of([*records, b"x"])),
)
_broken(
    "chain_longer_than_its_checkpoint",
    "The checkpoint covers an entry less.",
    6,
    _note(lambda records, note: checkpoint_of(records[:-1])),
)
_broken(
    "chain_of_another_root",
    "The checkpoint signs another root of the same size.",
    6,
    _note(lambda records, note: LOG_KEY.sign(len(records), bytes(32))),
)
_broken(
    "checkpoint_of_another_log",
    "The checkpoint is by another log.",
    None,
    _note(lambda records, note: checkpoint_of(records, other_log().sign)),
    "bad_checkpoint",
)
_broken(
    "checkpoint_flipped",
    "A bit of the checkpoint's signature is flipped.",
    None,
    _note(lambda records, note: _flip_note(note)),
    "bad_checkpoint",
)
_broken(
    "checkpoint_of_another_size",
    "Its size is another, under the same signature.",
    None,
    _note(lambda records, note: note.replace(b"\n7\n", b"\n6\n")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_an_extension",
    "It has an extension line, and is signed with it.",
    None,
    _note(lambda records, note: _sign_note(note.split(b"\n\n")[0] + b"\nmore\n")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_a_leading_zero",
    "Its size has a leading zero, and is signed so.",
    None,
    _note(lambda records, note: _sign_note(note.split(b"\n\n")[0].replace(b"\n7\n", b"\n07\n") + b"\n")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_a_short_root",
    "Its root has 31 bytes, and is signed so.",
    None,
    _note(lambda records, note: _sign_note(b"%b\n7\n%b\n" % (LOG_KEY.origin.encode(), base64.b64encode(bytes(31))))),
    "bad_checkpoint",
)
_broken(
    "checkpoint_of_another_origin",
    "Its first line is another origin, and is signed so.",
    None,
    _note(lambda records, note: _sign_note(note.split(b"\n\n")[0].replace(b"reject-", b"accept-") + b"\n")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_a_wrong_signature_more",
    "A second signature of the log is wrong.",
    None,
    _note(lambda records, note: note + _flip_note(note).split(b"\n\n")[1]),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_33_signatures",
    "It has 32 signatures of others.",
    None,
    _note(lambda records, note: note + b"".join(b"\xe2\x80\x94 other%d AAAAAAAA\n" % n for n in range(32))),
    "bad_checkpoint",
)
_broken(
    "checkpoint_without_its_newline",
    "Its last newline is missing.",
    None,
    _note(lambda records, note: note[:-1]),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_carriage_returns",
    "Its lines end as on another system.",
    None,
    _note(lambda records, note: note.replace(b"\n", b"\r\n")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_a_hyphen",
    "A hyphen stands in place of the dash.",
    None,
    _note(lambda records, note: note.replace(b"\xe2\x80\x94", b"-")),
    "bad_checkpoint",
)
_broken(
    "checkpoint_without_signature",
    "It has no signature.",
    None,
    _note(lambda records, note: note.split(b"\n\n")[0] + b"\n\n"),
    "bad_checkpoint",
)
_broken("checkpoint_missing", "There is none.", None, _note(lambda records, note: b""), "bad_checkpoint")
_broken("checkpoint_not_utf_8", "It is not UTF-8.", None, _note(lambda records, note: note + b"\xff"), "bad_checkpoint")
_broken("ledger_empty", "There is no entry.", None, lambda records, note: ([], b""), "no_genesis")


def _flip_note(note: bytes) -> bytes:
    head, _, line = note.rpartition(b" ")
    data = bytearray(base64.b64decode(line))
    data[-1] ^= 1
    return head + b" " + base64.b64encode(bytes(data)) + b"\n"


def _sign_note(text: bytes) -> bytes:
    """Any text under the log's key."""
    return sign_note(text.decode(), LOG_KEY.origin, LOG_KEY._key)


# Objects that no law reads, and an audit looks for.


def _object(name: str, what: str, code: str, say: Doing, moment: str = "fleet", story: str = "main") -> None:
    add(f"object_{name}", what, moment, code, say, story)


LOST = {"sha256": digest_of(0), "size": 9}


def _artifact(data: bytes | None, **changes: Any) -> Doing:
    """A lease of a directory whose manifest is this."""

    def doing(f: Forge) -> None:
        ref = LOST if data is None else f.objects.put(data).to_json()
        assert isinstance(ref, dict)
        changed = {**ref, **changes}
        instances = names(4)
        f.intent("INT-20260105-001")
        f.forged = f.head.size
        group = {"before": digest_of(1), "after": changed["sha256"], "instances": instances}
        f.say("cbo", "lease", f.lease_fields(1, artifact={"type": "directory", **changed}, changes=[group]))

    return doing


def _manifest(*rows: Any) -> bytes:
    return format_json(["calyx-tree-v1", *rows])


FILE = sha256(b"a file").hexdigest()
_object("manifest_missing", "A directory's manifest is nowhere.", "object_missing", _artifact(None))
_object(
    "manifest_of_another_size",
    "A directory's manifest has another size.",
    "object_mismatch",
    _artifact(_manifest(), size=9),
)
_object(
    "manifest_of_another_magic", "A directory's object is another list.", "bad_format", _artifact(b'["calyx-tree-v2"]')
)
_object(
    "manifest_with_white_space",
    "A directory's manifest is not canonical.",
    "not_canonical",
    _artifact(b'["calyx-tree-v1", []]'),
)
_object("manifest_of_no_list", "A directory's object is no list.", "bad_format", _artifact(b"{}"))
_object(
    "manifest_with_a_device",
    "A directory's manifest lists a device.",
    "bad_format",
    _artifact(_manifest(["a", "device"])),
)
_object(
    "manifest_with_a_short_row",
    "A file of a manifest has no size.",
    "bad_format",
    _artifact(_manifest(["a", "file", FILE])),
)
_object(
    "file_missing", "A file of a directory is nowhere.", "object_missing", _artifact(_manifest(["a", "file", FILE, 6]))
)


def _says(kind: str, who: str, fields: dict[str, Any], moment: str, code: str = "object_missing") -> None:
    def doing(f: Forge) -> None:
        f.forged = f.head.size
        f.say(who, kind, fields, f.it)

    _object(
        f"of_a_{kind}_missing" + ("_report" if "epoch" in fields else ""),
        f"What a {kind} names is nowhere.",
        code,
        doing,
        moment,
    )


_says("review", "cp18", {"role": "validator", "verdict": "pass", "summary": "", "findings": LOST}, "lease")
_says(
    "event",
    "cp18",
    {"epoch": None, "detail": {"type": "SANITY", "verdict": "pass", "report": LOST, "text": ""}},
    "claimed",
)


@reject("baking", "object_missing")
def object_of_a_sample_missing(f: Forge) -> None:
    """The raw values of a sample are nowhere."""
    f.now += 15
    f.forged = f.head.size
    f.event("cp19", f.it, "SAMPLE", **{**sample_fields(f, f.it, 1), "raw": LOST})


@reject("fleet", "object_missing")
def object_of_a_patch_missing(f: Forge) -> None:
    """A patch is nowhere."""
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    f.say("cbo", "lease", f.lease_fields(1, artifact={"type": "patch", **LOST}))


@reject("fleet", "object_mismatch")
def object_changed(f: Forge) -> None:
    """A patch has the right size and another content."""
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    f.say("cbo", "lease", f.lease_fields(1))
    f.objects.kept[sha256(b"patch").hexdigest()] = b"Patch"


@reject("fleet", "object_missing")
def object_of_a_tree_before_without_its_file(f: Forge) -> None:
    """The tree before is known by its manifest, and a file of it is nowhere."""
    tree = f.objects.put(_manifest(["a", "exec", FILE, 6]))
    f.intent("INT-20260105-001")
    f.forged = f.head.size
    group = {"before": tree.sha256, "after": digest_of(2), "instances": names(4)}
    f.say("cbo", "lease", f.lease_fields(1, changes=[group]))


@reject("genesis", "object_mismatch")
def object_of_a_fleet_changed(f: Forge) -> None:
    """A fleet's body has the right size and another content."""
    ref = f.fleet_object()
    data = f.objects.kept[ref["sha256"]]
    f.objects.kept[ref["sha256"]] = data.replace(b"web-01", b"web-09")
    f.forge("ada", "fleet", f.proposal("fleet", ref))
