"""The audit's law and the second opinion under random ledgers: whatever is signed and forced, both say the same of it,
who asks before signing is told the same, and the registrar takes what both take.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duel as one_by_one
import pytest
from duel_play import check_registrar, check_whole, play
from fuzzing import bounded
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.errors import LawRefused


@settings(max_examples=6)
@given(st.integers(0, 2**32))
def test_both_verifiers_say_the_same_of_any_ledger(seed: int) -> None:
    with bounded():
        duel = play(seed, 60)
        check_whole(duel, 2)
    assert duel.differences == []


@pytest.mark.parametrize("seed", [3, 4])
def test_registrar_takes_what_both_verifiers_take(seed: int, tmp_path: Path) -> None:
    with bounded():
        duel = play(seed, 60)
        assert check_registrar(duel, tmp_path) >= len(duel.log)


def test_ledgers_reach_deep() -> None:
    """Ledgers that never get anywhere would prove nothing; these seeds are known to."""
    taken, refused = Counter[str](), Counter[str]()
    for seed in (1, 3, 5, 11):
        duel = play(seed, 120)
        assert duel.differences == []
        taken += duel.taken
        refused += duel.refused
    assert {"trust", "policy", "fleet", "claim", "command", "event COMPLETED", "event ROLLED_BACK"} <= taken.keys(), (
        taken
    )
    assert len(refused) > 40, sorted(refused)


def test_duel_notices_what_is_not_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person would be asked to sign what is refused then."""
    monkeypatch.setattr(one_by_one, "foresee", lambda *_: None)
    duel = play(1, 60)
    assert {each.theirs for each in duel.differences} == {None}
    missed = {each.ours for each in duel.differences}
    assert duel.refused.keys() - missed == {"bad_signature", "wrong_key"}, "nobody foresees how a signature is made"


def test_duel_notices_what_is_foreseen_for_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person could never sign what is lawful."""

    def refuse(*_: object) -> None:
        raise LawRefused("role_missing", "nobody may", rule="role")

    monkeypatch.setattr(one_by_one, "foresee", refuse)
    duel = play(1, 60)
    assert duel.taken.total() == sum(each.ours is None for each in duel.differences)
