"""Counting what a replay judges: what it skips it does not look at."""

from __future__ import annotations

from typing import Any

import pytest

from policies import replay as replay_module


def count_judged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seqs that replays judge from now on, in a list that grows."""
    seqs: list[int] = []
    step: Any = replay_module.__dict__["step"]

    def counted(state: Any, entry: Any, *rest: Any) -> Any:
        seqs.append(entry.seq)
        return step(state, entry, *rest)

    monkeypatch.setattr(replay_module, "step", counted)
    return seqs
