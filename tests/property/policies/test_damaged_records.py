"""A ledger's file with records that are other bytes, or stand elsewhere: the audit and the second opinion say the same
of it, and what nobody signed anew is right for neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from duel import same_code
from forging import LOG_KEY, ForgedObjects, checkpoint_of
from fuzzing import bounded, hostile
from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from reject_stories import STORIES
from verdicts import SECOND, Ledger, Verdict, of_forge, opinion, reported

from keys.errors import CalyxError
from keys.values import ZERO_HASH
from ledger.envelope import Envelope
from ledger.merkle import Frontier, hash_leaf
from ledger.record import make_record, parse_record
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit

FORGE = STORIES["main"]().ledger
WHOLE = of_forge(FORGE)


class Damaged:
    """A ledger with other records. `signed`: its checkpoint covers them, as whoever holds the log's key would sign.
    `how`: what was done to it, which is all that is printed.
    """

    def __init__(self, ledger: Ledger, *, signed: bool, how: list[str]) -> None:
        self.ledger, self.signed, self.how = ledger, signed, how

    def __repr__(self) -> str:
        return f"Damaged({', '.join(self.how)}{', signed' if self.signed else ''})"


def enclosing(data: bytes, change: Callable[[Envelope], Envelope]) -> bytes:
    """The record with another envelope; as it is where it is none, or cannot hold that one."""
    try:
        record = parse_record(data)
        return make_record(record.seq, record.prev, record.seconds, change(record.envelope)).data
    except CalyxError:
        return data


def envelopes(draw: st.DrawFn, other: bytes) -> Callable[[Envelope], Envelope]:
    """A change of a statement, its signature or its key id: to other bytes, or to those of another record."""

    def change(said: Envelope) -> Envelope:
        match draw(st.sampled_from(["body", "body", "sig", "theirs"])):
            case "body":
                return Envelope(draw(hostile([said.body])), said.keyid, said.sig)
            case "sig":
                return Envelope(said.body, said.keyid, draw(hostile([said.sig])))
            case _:
                theirs = parse_record(other).envelope
                body, keyid, sig = (
                    getattr(draw(st.sampled_from([said, theirs])), name) for name in ("body", "keyid", "sig")
                )
                return Envelope(body, keyid, sig)

    return change


def later(data: bytes) -> bytes:
    """The record a second later, which most of the law does not mind; as it is where it is none."""
    try:
        record = parse_record(data)
    except CalyxError:
        return data
    return make_record(record.seq, record.prev, record.seconds + 1, record.envelope).data


def chained(records: list[bytes]) -> list[bytes]:
    """The records, each of those that are records in its place, and naming the one before it."""
    linked: list[bytes] = []
    for seq, data in enumerate(records):
        prev = hash_leaf(linked[-1]).hex() if linked else ZERO_HASH
        try:
            record = parse_record(data)
        except CalyxError:
            linked.append(data)
        else:
            linked.append(make_record(seq, prev, record.seconds, record.envelope).data)
    return linked


@st.composite
def damages(draw: st.DrawFn) -> Damaged:
    """The ledger, changed in one to three places."""
    records, how = list(WHOLE.records), list[str]()
    for _ in range(draw(st.integers(1, 3))):
        last = max(0, len(records) - 1)
        # The checkpoint alone confirms the last one.
        at, other = (draw(st.one_of(st.integers(0, last), st.integers(max(0, last - 2), last))) for _ in range(2))
        what = draw(
            st.sampled_from(["bytes", "bytes", "said", "said", "later", "double", "more", "swap", "drop", "cut"])
        )
        how.append(f"{what} {at} {other}")
        match what:
            case "bytes" if records:
                records[at] = draw(hostile([records[at]]))
            case "said" if records:
                records[at] = enclosing(records[at], envelopes(draw, records[other]))
            case "later" if records:
                records[at] = later(records[at])
            case "more" if records:
                records.append(records[other])
            case "double":
                records[at:at] = records[other : other + 1]
            case "swap" if records:
                records[at], records[other] = records[other], records[at]
            case "drop":
                del records[at : at + 1]
            case _:
                del records[at:]
    if draw(st.booleans()):
        records = chained(records)
        how.append("chained")
    signed = draw(st.booleans())
    checkpoint = checkpoint_of(records) if signed else WHOLE.note
    return Damaged(replace(WHOLE, records=records, note=checkpoint), signed=signed, how=how)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger's file, as the store writes it."""
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    with SqliteStore.create(path) as store:
        store.append(store.head(), FORGE.records, LOG_KEY.sign)
    return path


def lay(damaged: Damaged, whole: Path, path: Path) -> None:
    """The file with these records in it. Its tip is the old one where the checkpoint is."""
    path.write_bytes(whole.read_bytes())
    ledger, frontier = damaged.ledger, Frontier()
    leaves = [hash_leaf(data) for data in ledger.records]
    for leaf in leaves:
        frontier.append(leaf)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM record")
        rows = [(seq, leaf, data) for seq, (leaf, data) in enumerate(zip(leaves, ledger.records, strict=True))]
        connection.executemany("INSERT INTO record (seq, leaf, data) VALUES (?, ?, ?)", rows)
        if damaged.signed:
            tip = (len(leaves), bytes.fromhex(ledger.head().hash), frontier.format(), ledger.note)
            connection.execute("UPDATE tip SET size = ?, hash = ?, frontier = ?, checkpoint = ?", tip)
        connection.commit()


def verdicts(path: Path) -> tuple[Verdict, Verdict]:
    """What both find first in a file."""
    with SqliteStore.open(path, read_only=True) as store:
        report = audit(store, ForgedObjects(WHOLE.objects), remembered=None)
    # The second opinion knows no tip: it reads the rows there are, and what the checkpoint says of them.
    findings = sorted(report.findings, key=lambda finding: finding.code == "tip_mismatch")
    records, checkpoint = SECOND.read_database(path)
    return reported(replace(report, findings=findings)), opinion(records, checkpoint, WHOLE.objects)


@settings(max_examples=60)
@given(damages())
def test_both_verifiers_name_the_same_entry_of_damaged_records(whole: Path, damaged: Damaged) -> None:
    with bounded(), TemporaryDirectory() as folder:
        lay(damaged, whole, Path(folder) / "ledger.db")
        ours, theirs = verdicts(Path(folder) / "ledger.db")
    event(f"{ours.code}")
    note(f"{ours} {theirs}")
    assert ours.entry == theirs.entry
    assert same_code(ours.code, theirs.code)
    assert ours.code is not None or ours == theirs
    if not damaged.signed:
        assert (ours.code is None) == (damaged.ledger.records == WHOLE.records)


def test_both_verifiers_accept_the_file_that_is_damaged(whole: Path, tmp_path: Path) -> None:
    for signed in (False, True):
        lay(Damaged(WHOLE, signed=signed, how=[]), whole, tmp_path / "ledger.db")
        ours, theirs = verdicts(tmp_path / "ledger.db")
        assert ours == theirs
        assert ours.code is None
