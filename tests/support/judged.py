"""Counting what a replay judges: what it skips it does not look at."""

from __future__ import annotations

from typing import Any

import pytest

from policies import replay as replay_module


def count_judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seqs that replays judge from now on, to read or to append, in a list that grows."""
    seqs: list[int] = []
    for name in ("step", "judge"):
        _count(monkeypatch, name, seqs)
    return seqs


def _count(monkeypatch: pytest.MonkeyPatch, name: str, seqs: list[int]) -> None:
    real: Any = replay_module.__dict__[name]

    def counted(state: Any, entry: Any, *rest: Any) -> Any:
        seqs.append(entry.seq)
        return real(state, entry, *rest)

    monkeypatch.setattr(replay_module, name, counted)
