from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import START, checkpoint_of, make_envelope, make_records

from ledger.chain import Chain, ChainBroken
from ledger.checkpoint import Checkpoint
from ledger.head import Head
from ledger.merkle import Frontier, LeafNodes
from ledger.record import Record, make_record

RECORDS = make_records(6)
CHECKPOINT = checkpoint_of(RECORDS)


def broken(raws: list[bytes], checkpoint: Checkpoint | None = CHECKPOINT) -> ChainBroken:
    with pytest.raises(ChainBroken) as caught:
        list(Chain().replay(raws, checkpoint))
    assert caught.value.code == "broken_chain"
    assert caught.value.fields["entry"] == caught.value.entry
    return caught.value


def replaced(at: int, record: Record | bytes) -> list[bytes]:
    raws = [each.data for each in RECORDS]
    raws[at] = record if isinstance(record, bytes) else record.data
    return raws


def test_whole_chain_gives_every_entry_with_its_leaf() -> None:
    chain = Chain()
    entries = list(chain.replay([each.data for each in RECORDS], CHECKPOINT))
    assert [entry.record for entry in entries] == RECORDS
    assert [entry.leaf for entry in entries] == [each.leaf for each in RECORDS]
    assert chain.head == Head(6, RECORDS[-1].leaf)
    assert chain.frontier.root() == CHECKPOINT.root


def test_empty_ledger_agrees_with_the_empty_checkpoint() -> None:
    assert list(Chain().replay([], checkpoint_of([]))) == []
    assert list(Chain().replay([], None)) == []


@given(st.integers(0, 5), st.integers(0, 10_000))
def test_any_changed_bit_names_its_entry(at: int, bit: int) -> None:
    data = bytearray(RECORDS[at].data)
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    assert broken(replaced(at, bytes(data))).entry == at


@pytest.mark.parametrize("at", range(6))
def test_rewritten_record_that_parses_is_named(at: int) -> None:
    old = RECORDS[at]
    assert broken(replaced(at, make_record(at, old.prev, old.seconds, make_envelope(99)))).entry == at
    if at:
        assert broken(replaced(at, make_record(at, "0" * 64, old.seconds, old.envelope))).entry == at


@pytest.mark.parametrize("at", range(6))
def test_changed_entry_is_not_given_out(at: int) -> None:
    old = RECORDS[at]
    raws = replaced(at, make_record(at, old.prev, old.seconds, make_envelope(99)))
    given_out: list[int] = []
    with pytest.raises(ChainBroken):
        given_out.extend(entry.seq for entry in Chain().replay(raws, CHECKPOINT))
    assert all(seq < at for seq in given_out)


def test_rewritten_record_with_resigned_checkpoint_is_still_named() -> None:
    old = RECORDS[4]
    changed = make_record(4, old.prev, old.seconds, make_envelope(99))
    forged = checkpoint_of([*RECORDS[:4], changed, RECORDS[5]])
    assert broken(replaced(4, changed), forged).entry == 4


def test_cut_end_contradicts_the_checkpoint() -> None:
    error = broken([each.data for each in RECORDS[:4]])
    assert (error.entry, error.reason) == (4, "missing")


def test_record_added_past_the_checkpoint_is_named() -> None:
    seventh = make_record(6, RECORDS[-1].leaf, START + 9, make_envelope(9))
    error = broken([each.data for each in [*RECORDS, seventh]])
    assert (error.entry, error.reason) == (6, "extra")


def test_changed_last_entry_is_named_before_what_was_added_past_it() -> None:
    old = RECORDS[5]
    changed = make_record(5, old.prev, old.seconds, make_envelope(99))
    added = make_record(6, changed.leaf, START + 9, make_envelope(9))
    error = broken([*replaced(5, changed), added.data])
    assert (error.entry, error.reason) == (5, "root")


def test_what_was_added_past_the_checkpoint_confirms_nothing() -> None:
    """Anybody can add a record that names the one before it."""
    unlinked = make_record(5, "0" * 64, RECORDS[5].seconds, RECORDS[5].envelope)
    added = make_record(6, unlinked.leaf, START + 9, make_envelope(9))
    assert broken([*replaced(5, unlinked), added.data]).entry == 5


def test_swapped_and_repeated_and_dropped_records_are_named() -> None:
    raws = [each.data for each in RECORDS]
    assert broken([raws[0], raws[2], raws[1], *raws[3:]]).entry == 1
    assert broken([raws[0], raws[0], *raws[1:]]).entry == 1
    assert broken([*raws[:2], *raws[3:]]).entry == 2


def test_time_that_goes_back_is_named() -> None:
    second = make_record(1, RECORDS[0].leaf, START - 1, make_envelope(1))
    error = broken([RECORDS[0].data, second.data], checkpoint_of([RECORDS[0], second]))
    assert (error.entry, error.reason) == (1, "time")


def test_first_record_with_a_predecessor_is_refused() -> None:
    orphan = make_record(0, "ab" * 32, START, make_envelope())
    assert broken([orphan.data], checkpoint_of([orphan])).entry == 0


def test_replay_goes_on_from_a_verified_prefix() -> None:
    leaves = [bytes.fromhex(each.leaf) for each in RECORDS]
    chain = Chain(Head(3, RECORDS[2].leaf), RECORDS[2].seconds, Frontier.load(3, LeafNodes(leaves[:3])))
    assert [entry.seq for entry in chain.replay([each.data for each in RECORDS[3:]], CHECKPOINT)] == [3, 4, 5]


def test_history_that_does_not_continue_the_verified_prefix_is_refused() -> None:
    leaves = [bytes.fromhex(each.leaf) for each in RECORDS]
    frontier = Frontier.load(3, LeafNodes([*leaves[:2], leaves[0]]))
    chain = Chain(Head(3, RECORDS[0].leaf), None, frontier)
    with pytest.raises(ChainBroken) as caught:
        list(chain.replay([each.data for each in RECORDS[3:]], CHECKPOINT))
    assert caught.value.entry == 2


def test_checkpoint_older_than_the_verified_prefix_is_refused() -> None:
    chain = Chain()
    list(chain.replay([each.data for each in RECORDS], CHECKPOINT))
    with pytest.raises(ChainBroken):
        list(chain.replay([], checkpoint_of(RECORDS[:3])))


def test_replay_holds_one_entry_at_a_time() -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for each in RECORDS:
            taken += 1
            yield each.data

    make: Callable[[], object] = source
    replay = Chain().replay(make(), CHECKPOINT)  # type: ignore[arg-type]  # typed loosely to keep the counter plain
    next(replay)
    assert taken == 2
