from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.fence import load_fence, pass_fence, store_fence, take_fence
from executor.host import Fence
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
