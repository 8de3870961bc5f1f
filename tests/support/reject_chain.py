"""Forgeries of the chain, the tree and the checkpoint."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from forging import LOG_KEY, after, checkpoint_of, digest_of

from keys.canonical import format_json
from keys.values import parse_time
from ledger.log_key import LogKey
from ledger.merkle import hash_leaf
from ledger.note import sign_note

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


def _later(data: bytes) -> bytes:
    value = json.loads(data)
    return format_json({**value, "time": after(parse_time(value["time"]), 1)})


def _next(data: bytes, **changes: Any) -> bytes:
    """The same statement and signature in the place behind it."""
    value = json.loads(data)
    return format_json({**value, "seq": value["seq"] + 1, "prev": hash_leaf(data).hex(), **changes})


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
_broken("chain_with_another_prev_at_the_end", "The last entry names another leaf.", 6, _at(-1, _other_prev))
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
# An entry that nothing confirms is judged before the one after it, which is the changed one by the rule of the chain.
_UNCONFIRMED = [
    ("larger", lambda records: LOG_KEY.sign(len(records) + 1, bytes(32))),
    ("smaller", lambda records: checkpoint_of(records[:-1])),
]
for _size, _other_note in _UNCONFIRMED:
    _broken(
        f"chain_changed_before_the_end_under_a_{_size}_checkpoint",
        f"The last entry but one has another signature, and the checkpoint is of a {_size} size.",
        5,
        lambda records, note, sign=_other_note: ([*records[:-2], _changed(records[-2]), records[-1]], sign(records)),
        # A checkpoint of what comes before the last entry signs another one in the place of the changed one.
        "bad_signature" if _size == "larger" else "broken_chain",
    )
    _broken(
        f"chain_with_another_prev_at_the_end_under_a_{_size}_checkpoint",
        f"The last entry names another leaf, and the checkpoint is of a {_size} size.",
        6,
        lambda records, note, sign=_other_note: ([*records[:-1], _other_prev(records[-1])], sign(records)),
    )
_broken(
    "chain_changed_at_the_end_under_a_larger_checkpoint",
    "The last entry has another signature, and the checkpoint covers an entry more.",
    6,
    lambda records, note: ([*records[:-1], _changed(records[-1])], LOG_KEY.sign(len(records) + 1, bytes(32))),
    "bad_signature",
)
_broken(
    "chain_cut_behind_an_entry_that_is_not_lawful",
    "The last entry says again what the one before it says, and the checkpoint covers an entry more.",
    7,
    lambda records, note: ([*records, _next(records[-1])], LOG_KEY.sign(len(records) + 2, bytes(32))),
    "repeated",
)
_broken(
    "chain_with_another_prev_behind_an_entry_that_is_not_lawful",
    "An entry says again what the one before it says, and the last one names another leaf.",
    7,
    lambda records, note: (
        [*records, _next(records[-1]), _next(_next(records[-1]), prev=digest_of(0))],
        LOG_KEY.sign(len(records) + 2, bytes(32)),
    ),
    "repeated",
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
    "chain_longer_than_its_checkpoint_behind_an_entry_with_another_time",
    "The last entry is a second later, and an entry follows that the checkpoint does not cover.",
    6,
    lambda records, note: ([*records[:-1], _later(records[-1]), _next(_later(records[-1]))], note),
)
_broken(
    "chain_longer_than_its_checkpoint_behind_an_entry_with_another_prev",
    "The last entry names another leaf, and is named by an entry that the checkpoint does not cover.",
    6,
    lambda records, note: ([*records[:-1], _other_prev(records[-1]), _next(_other_prev(records[-1]))], note),
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
    "checkpoint_with_a_short_signature",
    "A second signature has a key id and nothing behind it.",
    None,
    _note(lambda records, note: note + b"\xe2\x80\x94 other AAAAAA==\n"),
    "bad_checkpoint",
)
_broken(
    "checkpoint_with_a_space_in_a_name",
    "A second signature's name has a no-break space.",
    None,
    _note(lambda records, note: note + b"\xe2\x80\x94 oth\xc2\xa0er AAAAAAAA\n"),
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


def other_log() -> LogKey:
    """A log key that no ledger here names."""
    return LogKey.generate("station.example/reject", Random(8).randbytes)
