from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.hosts.fence import load_fence, pass_fence, store_fence, take_fence
from executor.hosts.host import Fence
from keys.errors import CalyxError

OLD = Fence(ledger="a" * 64, epoch=3, leaf="b" * 64)


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (OLD.model_copy(update={"epoch": 2, "leaf": "c" * 64}), "fenced"),
        (OLD.model_copy(update={"epoch": 2}), "fenced"),
        (OLD.model_copy(update={"leaf": "c" * 64}), "fork_detected"),
        (OLD.model_copy(update={"ledger": "d" * 64, "epoch": 9}), "other_ledger"),
        (OLD.model_copy(update={"ledger": "d" * 64}), "other_ledger"),
    ],
)
def test_fence_refuses_and_keeps_what_it_had(tmp_path: Path, shown: Fence, code: str) -> None:
    path = tmp_path / "fence"
    store_fence(path, OLD)
    with pytest.raises(CalyxError) as refused:
        take_fence(path, shown)
    assert refused.value.code == code
    assert load_fence(path) == OLD


def test_newer_term_passes_and_shuts_out_the_older(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    newer = Fence(ledger=OLD.ledger, epoch=4, leaf="c" * 64)
    take_fence(path, OLD)
    take_fence(path, OLD)
    take_fence(path, newer)
    assert load_fence(path) == newer
    with pytest.raises(CalyxError):
        take_fence(path, OLD)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"epoch":0}', OLD.canonical()[:-1], OLD.canonical() + b"\n", b"x" * 5000]
)
def test_fence_that_cannot_be_read_lets_nobody_through(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fence"
    path.write_bytes(content)
    with pytest.raises(CalyxError) as refused:
        take_fence(path, OLD)
    assert refused.value.code == "fence_unreadable"
    assert path.read_bytes() == content


NEW = Fence(ledger="d" * 64, epoch=1, leaf="e" * 64, continues=(OLD.ledger,))


def test_ledger_that_continues_the_hosts_passes_and_the_old_one_is_refused_for_good(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    take_fence(path, OLD)
    take_fence(path, NEW)
    assert load_fence(path) == NEW
    for old in (OLD, OLD.model_copy(update={"epoch": 99, "leaf": "f" * 64})):
        with pytest.raises(CalyxError) as refused:
            take_fence(path, old)
        assert refused.value.code == "other_ledger"
        assert "which continued" in refused.value.message
    assert load_fence(path) == NEW


def test_second_ledger_that_continues_the_same_one_comes_too_late(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    take_fence(path, OLD)
    take_fence(path, NEW)
    rival = Fence(ledger="9" * 64, epoch=7, leaf="8" * 64, continues=(OLD.ledger,))
    with pytest.raises(CalyxError) as refused:
        take_fence(path, rival)
    assert refused.value.code == "other_ledger"
    assert load_fence(path) == NEW


def test_ledger_that_continues_another_one_than_the_hosts(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    take_fence(path, OLD)
    with pytest.raises(CalyxError) as refused:
        take_fence(path, NEW.model_copy(update={"continues": ("7" * 64,)}))
    assert refused.value.code == "other_ledger"
    assert load_fence(path) == OLD


def test_host_that_missed_a_whole_ledger_takes_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "fence"
    take_fence(path, OLD)
    third = Fence(ledger="2" * 64, epoch=1, leaf="3" * 64, continues=(NEW.ledger, OLD.ledger))
    take_fence(path, third)
    for old in (OLD, NEW):
        with pytest.raises(CalyxError) as refused:
            take_fence(path, old)
        assert refused.value.code == "other_ledger"
    assert load_fence(path) == third


fences = st.builds(
    Fence,
    ledger=st.sampled_from(["a" * 64, "b" * 64]),
    epoch=st.integers(0, 4),
    leaf=st.sampled_from(["c" * 64, "d" * 64]),
)


@given(st.lists(fences, max_size=12))
def test_epochs_let_through_never_fall_and_never_fork(orders: list[Fence]) -> None:
    stored: Fence | None = None
    passed: list[Fence] = []
    for order in orders:
        try:
            stored = pass_fence(stored, order)
        except CalyxError:
            continue
        passed.append(order)
    assert [fence.epoch for fence in passed] == sorted(fence.epoch for fence in passed)
    assert len({fence.ledger for fence in passed}) <= 1
    assert len({fence.epoch for fence in passed}) == len({(fence.epoch, fence.leaf) for fence in passed})


def test_fence_comes_back_from_disk(tmp_path: Path) -> None:
    assert load_fence(tmp_path / "fence") is None
    store_fence(tmp_path / "fence", OLD)
    assert load_fence(tmp_path / "fence") == OLD


GENERATIONS = [
    Fence(ledger=f"{n}" * 64, epoch=1, leaf="c" * 64, continues=tuple(f"{k}" * 64 for k in range(n - 1, 0, -1)))
    for n in range(1, 6)
]


@given(st.lists(st.sampled_from(GENERATIONS), max_size=20))
def test_no_order_of_successors_ever_leads_back_to_a_ledger_that_is_over(orders: list[Fence]) -> None:
    stored: Fence | None = None
    newest = 0
    for order in orders:
        generation = len(order.continues)
        try:
            stored = pass_fence(stored, order)
        except CalyxError as error:
            assert error.code == "other_ledger"
            assert generation < newest
        else:
            assert generation >= newest
            newest = generation


def test_fence_of_a_long_lineage_still_fits_its_file(tmp_path: Path) -> None:
    fence = Fence(ledger="a" * 64, epoch=2**53 - 1, leaf="b" * 64, continues=tuple(f"{n:064x}" for n in range(16)))
    store_fence(tmp_path / "fence", fence)
    assert load_fence(tmp_path / "fence") == fence
