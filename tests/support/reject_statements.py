"""Forgeries of statements, as bytes."""

from __future__ import annotations

import re
from collections.abc import Callable

from forging import Forge
from reject_law import MESSAGE
from reject_registry import add, reject

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
_bytes("too_deep_and_no_json", "What is nested too deep never ends.", "too_deep", _swap(TEXT, b'"reason":' + b"[" * 16))
_bytes(
    "too_deep_and_a_float",
    "A float stands before what is nested too deep.",
    "too_deep",
    _swap(TEXT, b'"reason":[1.5,' + _deep(16) + b"]"),
)
_bytes(
    "too_deep_and_with_a_space",
    "A space stands before what is nested too deep.",
    "too_deep",
    _swap(TEXT, b'"reason": ' + _deep(16)),
)


def _event_too_deep(f: Forge) -> None:
    said = f.body("event", {**f.common("cp20"), "epoch": 1, "detail": {"type": "STARTED"}}, f.it)
    f.force(f.sign("cp20", "event", said.replace(b'{"type"', b'{"a":' + _deep(2_000) + b',"type"')))


add(
    "statement_too_deep_before_its_type",
    "An event tells something 2,000 arrays deep before it tells its type.",
    "lease",
    "too_deep",
    _event_too_deep,
)


def _elsewhere(number: bytes) -> Callable[[bytes], bytes]:
    """It names another ledger, too, which is looked at later than numbers."""
    return lambda body: re.sub(rb'"ledger":"\w+"', b'"ledger":"%b"' % (b"0" * 64), body).replace(
        TEXT, b'"reason":' + number
    )


_bytes(
    "elsewhere_with_a_large_number", "Another ledger, and a number of 2^53.", "bad_format", _elsewhere(b"%d" % 2**53)
)
_bytes("elsewhere_with_a_negative_number", "Another ledger, and a number below 0.", "bad_format", _elsewhere(b"-1"))
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
_bytes(
    "with_a_lone_surrogate_that_a_second_field_hides",
    "A field stands twice, first with half of a surrogate pair.",
    "bad_format",
    _swap(TEXT, b'"reason":"\\udc00\\ud800",' + TEXT),
)
_bytes(
    "with_a_lone_surrogate_in_a_name_that_a_second_field_hides",
    "A field stands twice, first with an object that has a name with half of a surrogate pair.",
    "bad_format",
    _swap(TEXT, b'"reason":{"\\udfff":1},' + TEXT),
)
_bytes(
    "with_a_surrogate_pair_that_a_second_field_hides",
    "A field stands twice, first with an escaped surrogate pair and an escaped backslash.",
    "not_canonical",
    _swap(TEXT, b'"reason":"\\ud83d\\ude00\\\\ud800",' + TEXT),
)
_bytes(
    "with_a_float_that_a_second_field_hides",
    "A field stands twice, first with a float.",
    "not_canonical",
    _swap(TEXT, b'"reason":1.5,' + TEXT),
)
_bytes(
    "with_a_number_too_large_that_a_second_field_hides",
    "A field stands twice, first with a number that no float holds.",
    "bad_format",
    _swap(TEXT, b'"reason":1e999,' + TEXT),
)
_bytes(
    "with_a_long_number_that_a_second_field_hides",
    "A field stands twice, first with an integer that no float holds.",
    "bad_format",
    _swap(TEXT, b'"reason":' + b"9" * 400 + b"," + TEXT),
)
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
_bytes("with_minus_zero", "A size of minus zero.", "not_canonical", _swap(b'"size":7', b'"size":-0'))
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
_bytes(
    "of_a_bare_kind",
    "Its predicate type is the kind alone.",
    "unknown_kind",
    _swap(b"https://station.calyx/objection/v1", b"objection"),
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
