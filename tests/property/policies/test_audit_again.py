"""From any earlier cut: an audit of what is new ends in the state, and with the findings, of a whole one."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from auditing import Auditor, put
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from memory_objects import MemoryObjects
from walk import Walk

from keys.errors import CalyxError
from ledger.chain import Chain, Entry
from ledger.objects import ObjectRef
from ledger.record import Record, make_record
from ledger.sqlite.store import SqliteStore
from policies.auditing.audit import audit
from policies.auditing.report import Report
from policies.fold.scratch import IN_MEMORY
from policies.fold.shelf import SHELVED, Shelf
from policies.fold.snapshot import Folded, read_snapshot, write_snapshot
from policies.fold.state import State
from policies.law.step import step

CODE = "ab" * 32
STEPS = 45


class Audited(MemoryObjects):
    """Objects that an audit can look at. What a walk names without having made it counts as an empty tree."""

    def get(self, ref: ObjectRef) -> bytes:
        """Give content."""
        return self._kept.get(ref.sha256, b'["calyx-tree-v1"]')

    def check(self, ref: ObjectRef) -> None:
        """Prove nothing: walks are about the law."""

    def find(self, digest: str) -> ObjectRef | None:
        """The reference of what is here under a digest."""
        held = self._kept.get(digest)
        return None if held is None else ObjectRef(sha256=digest, size=len(held))


OBJECTS = Audited()


def walked(random: Random) -> Walk:
    walk = Walk(random, objects=OBJECTS)
    walk.begin()
    for _ in range(STEPS):
        walk.step()
    return walk


def bent(records: list[Record], at: int) -> list[Record]:
    """The same statements, with the one at `at` left out: chained lawfully, and contradicting what was signed later."""
    made: list[Record] = []
    for record in records:
        if record.seq != at:
            prev = made[-1].leaf if made else record.prev
            made.append(make_record(len(made), prev, record.seconds, record.envelope))
    return made


def said(report: Report) -> tuple[object, ...]:
    return report.ok, report.size, report.decided, report.ledger, report.head, report.root, report.findings


def end_of(user: Auditor) -> Folded:
    """The state at the end, by an audit that keeps nothing."""
    ended: list[Folded] = []
    with SqliteStore.open(user.path, read_only=True) as store:
        assert audit(store, user.objects, remembered=None, keep=ended.append).ok
    return ended[0]


@settings(max_examples=8, phases=(Phase.explicit, Phase.generate))
@given(random=st.randoms(use_true_random=False), data=st.data())
def test_new_from_any_cuts_is_as_whole(random: Random, data: st.DataObject) -> None:
    walk = walked(random)
    records = [entry.record for entry in walk.entries]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(records)), min_size=1, max_size=4)))
    spoilt = data.draw(st.none() | st.integers(cuts[-1], len(records)))
    with TemporaryDirectory() as root:
        user = Auditor(Path(root), Path(root) / "ledger.db", OBJECTS)
        begin = 0
        for cut in cuts:
            put(user.path, records[begin:cut], walk.log_key.sign)
            report, before = user.new()
            assert report.ok, report.findings
            assert (before.entries if before else 0) == report.first == begin
            begin = cut
        with SqliteStore.open(user.path, read_only=True) as store:
            kept = user.snapshots().load(store)
        assert kept.note.whole == cuts[0]
        state = State()
        for entry in walk.entries[:begin]:
            state = step(state, entry, walk.objects)
        assert kept.folded.state == state == end_of(user).state
        rest = bent(records, spoilt)[begin:] if spoilt is not None and spoilt < len(records) else records[begin:]
        put(user.path, rest, walk.log_key.sign)
        report, before = user.new()
        assert before is not None
        assert report.first == begin
        assert said(report) == said(user.whole())
        assert not report.ok or spoilt is None or spoilt == len(records) or spoilt == len(records) - 1


@settings(max_examples=8, phases=(Phase.explicit, Phase.generate))
@given(random=st.randoms(use_true_random=False))
def test_state_comes_back_from_its_snapshot_and_goes_on_as_it_would_have(random: Random) -> None:
    walk = walked(random)
    cut = random.randrange(1, len(walk.entries))
    state, chain = State(), Chain()
    for entry in walk.entries[:cut]:
        state = step(state, entry, walk.objects)
        chain.extend(entry.record)
    file = io.BytesIO()
    write_snapshot(file, Folded(state, chain), CODE)
    back = read_snapshot(file, CODE, IN_MEMORY)
    assert back.state == state
    assert back.chain.head == chain.head
    assert back.chain.seconds == chain.seconds
    assert back.chain.frontier.format() == chain.frontier.format()
    # What lies on shelves is written as it is, and a shelf writes itself as a dict does.
    again = io.BytesIO()
    write_snapshot(again, back, CODE)
    assert read_snapshot(again, CODE, IN_MEMORY).state == state
    for entry in walk.entries[cut:]:
        back.state.history.leaf(entry.seq - 1)
        moved = step(back.state, entry, walk.objects)
        assert moved is back.state
    assert back.state == walk.state


def test_snapshot_leaves_nothing_of_a_state_out() -> None:
    """A field that is added to the state and forgotten here would be empty after a start from a snapshot."""
    walk = walked(Random(7))
    state, chain = State(), Chain()
    for entry in walk.entries:
        state = step(state, entry, walk.objects)
        chain.extend(entry.record)
    # Whatever walks do not reach is not empty either.
    fields = {field.name for field in dataclasses.fields(State)}
    state.owed_reviews = {"ab" * 32: 7, "01" * 32: 3}
    state.rollback_orders = {"web": {"ab" * 32, "cd" * 32}}
    state.returnable = {"ab" * 32: 7, "01" * 32: None}
    state.completed = {("local", "/srv/a"): ("ab" * 32,), ("local", "/srv/b"): ("ab" * 32, "01" * 32)}
    file = io.BytesIO()
    write_snapshot(file, Folded(state, chain), CODE)
    back = read_snapshot(file, CODE, IN_MEMORY).state
    empty = State()
    filled = {name for name in fields if getattr(state, name) != getattr(empty, name)}
    assert fields - filled <= {"continues", "live", "messages"}
    for name in fields:
        assert getattr(back, name) == getattr(state, name), name
        assert isinstance(getattr(back, name), Shelf) == (name in SHELVED)
    # The order of what is looked through from its first is kept.
    for name in (
        "owed_reviews",
        "proposals",
        "leases",
        "deployments",
        "policies",
        "touched",
        "open_leases",
        "returnable",
    ):
        assert list(getattr(back, name)) == list(getattr(state, name))


def refused(state: State, entry: Entry, walk: Walk) -> str:
    try:
        step(state, entry, walk.objects)
    except CalyxError as error:
        return error.code
    return ""


def test_state_from_a_snapshot_refuses_what_was_said_before(tmp_path: Path) -> None:
    walk = walked(Random(3))
    user = Auditor(tmp_path, tmp_path / "ledger.db", OBJECTS)
    put(user.path, [entry.record for entry in walk.entries], walk.log_key.sign)
    assert user.whole().ok
    with SqliteStore.open(user.path, read_only=True) as store:
        folded = user.snapshots().load(store).folded
    for old in walk.entries[1:]:
        record = make_record(folded.state.size, folded.chain.head.hash, walk.now, old.record.envelope)
        assert refused(folded.state, Entry(record.seq, record, record.leaf), walk) == "repeated"
