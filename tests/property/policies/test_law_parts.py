"""Properties of the law's parts: cohorts, name lists, path rules, ballots and the index of digests."""

from __future__ import annotations

import io
import string
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_objects import MemoryObjects

from keys.canonical import format_json
from policies.fold.digests import FULL
from policies.fold.history import PARTS, History
from policies.fold.scratch import Column, Scratch, ScratchFailed
from policies.fold.state import Ballot, SignerRef, Vote, Withdrawal
from policies.law.cohort import order_instances, plan_cohorts
from policies.matrix import path_allowed
from policies.names import open_names, open_paths, same_list, store_list

NAMES = st.sets(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), min_size=1, max_size=60)
TIERS = st.sets(st.integers(1, 99), max_size=6).map(lambda tiers: (*sorted(tiers), 100))
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(names=NAMES, tiers=TIERS, lease=HASHES, leaf=HASHES, random=st.randoms(use_true_random=False))
def test_every_instance_is_in_one_cohort_of_the_size_of_its_tier(
    names: set[str], tiers: tuple[int, ...], lease: str, leaf: str, random: object
) -> None:
    shuffled = sorted(names, key=lambda _: random.random())  # type: ignore[attr-defined]  # hypothesis's Random
    ordered = order_instances(lease, leaf, shuffled, set())
    assert ordered == order_instances(lease, leaf, sorted(names), set())
    plan = plan_cohorts(tiers, ordered)
    assert [name for cohort in plan.values() for name in cohort] == list(ordered)
    assert all(plan.values())
    assert list(plan) == sorted(plan)
    done = 0
    for tier, cohort in plan.items():
        done += len(cohort)
        assert done == (tier * len(names) + 99) // 100
    # A tier that is not in the plan added nobody: the next one that is covers the same instances.
    for tier in set(tiers) - set(plan):
        follower = min(each for each in plan if each > tier)
        assert (tier * len(names) + 99) // 100 == (follower * len(names) + 99) // 100


@given(names=NAMES, pinned=NAMES, lease=HASHES, leaf=HASHES)
def test_pinned_instances_come_first_and_keep_their_order(
    names: set[str], pinned: set[str], lease: str, leaf: str
) -> None:
    ordered = order_instances(lease, leaf, names, pinned)
    count = len(names & pinned)
    assert set(ordered[:count]) == names & pinned
    free = order_instances(lease, leaf, names, set())
    assert [name for name in free if name in pinned] == list(ordered[:count])
    assert [name for name in free if name not in pinned] == list(ordered[count:])


@given(count=st.integers(0, 600), share=st.integers(1, 128))
def test_list_is_inline_or_an_object_and_comes_back(count: int, share: int) -> None:
    objects = MemoryObjects()
    names = tuple(f"web-{n:05}" for n in range(count))
    field = store_list(names, objects, share)
    size = len(format_json(list(names)))
    assert isinstance(field, tuple) == (count <= 256 and size <= 8_192 // share)
    assert open_names(field, objects) == names
    assert open_paths(field, objects) == names
    assert same_list(field, names)
    # Whoever writes chooses: the other way stands for the same list.
    other = objects.put(format_json(list(names)))
    assert same_list(other, names)
    assert open_names(other, objects) == names
    if names:
        assert not same_list(field, names[1:])
        assert not same_list(other, names[1:])
        assert not same_list(field, (*names[1:], "other"))


@given(
    segments=st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=3), min_size=1, max_size=4),
    rules=st.sets(st.from_regex(r"[a-z]{1,2}(/[a-z]{1,2}){0,2}/?", fullmatch=True), max_size=5),
)
def test_allowed_path_is_a_rule_or_below_a_directory_that_is_one(segments: list[str], rules: set[str]) -> None:
    path = "/".join(segments)
    above = {"/".join(segments[:n]) + "/" for n in range(1, len(segments))}
    assert path_allowed(path, rules) == bool({path} & rules or above & rules)


def vote(name: str, seq: int, head: int) -> Vote:
    signer = SignerRef(name, "human", f"SHA256:{name}", name.encode().hex(), name)
    return Vote(seq, "", "", signer, "approver", None, head, 0, 0)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from("ab"), st.integers(0, 12)),
        max_size=12,
    )
)
def test_ballot_agrees_with_its_definition(sayings: list[tuple[bool, str, int]]) -> None:
    ballot = Ballot()
    for seq, (is_vote, name, lag) in enumerate(sayings):
        if is_vote:
            ballot.add_vote(vote(name, seq, max(0, seq - lag)))
        else:
            ballot.add_withdrawal(Withdrawal(seq, name))
    expected = [
        each
        for each in ballot.votes
        if not any(w.principal == each.signer.principal and each.head_size <= w.seq for w in ballot.withdrawals)
    ]
    assert ballot.standing() == expected


@given(st.sets(st.integers(0, 5000), max_size=40))
def test_history_finds_what_was_said_and_nothing_else(said: set[int]) -> None:
    history, known = History(), {}
    for seq, number in enumerate(sorted(said)):
        # Digests that share their first bytes meet in one slot.
        digest = (bytes(7) + bytes([number % 3]) + sha256(number.to_bytes(4, "big")).digest()[:24]).hex()
        history.append(sha256(digest.encode()).hexdigest(), number, digest)
        known[digest] = seq
    for digest, seq in known.items():
        assert history.find(digest) == seq
        assert history.leaf(seq) == sha256(digest.encode()).hexdigest()
    assert history.find("ff" * 32) is None
    assert history.find((bytes(8) + bytes(24)).hex()) is None


@pytest.mark.parametrize("on_disk", [False, True])
def test_history_grows_beyond_its_first_table_and_what_stays_in_memory(tmp_path: Path, on_disk: bool) -> None:
    with Scratch(tmp_path / "scratch" if on_disk else None) as scratch:
        history = History(scratch)
        digests = [sha256(n.to_bytes(4, "big")).hexdigest() for n in range(9000)]
        leaves = [digest[::-1] for digest in digests]
        for n, digest in enumerate(digests):
            assert history.find(digest) is None
            history.append(leaves[n], n - 50, digest)
        assert history.size == 9000
        assert all(len(rows.recent) < FULL for rows in (history._leaves, history._times, history._digests.rows))
        assert [history.find(digest) for digest in digests] == list(range(9000))
        assert [history.leaf(n) for n in range(9000)] == leaves
        assert [history.time(n) for n in range(9000)] == list(range(-50, 8950))
        for wrong in (-1, 9000):
            with pytest.raises(IndexError):
                history.leaf(wrong)
            with pytest.raises(IndexError):
                history.time(wrong)
        # The same marks, and other keys.
        assert not any(history.find(digest[:8] + digest[8:][::-1]) for digest in digests)
        assert history.find("") is None
        assert not list(tmp_path.glob("scratch/*"))
        other = History()
        for n, digest in enumerate(digests[:-1]):
            other.append(leaves[n], n - 50, digest)
        assert history != other
        other.append(leaves[-1], 8949, digests[-1])
        assert history == other
        # From its parts it comes back, and goes on.
        parts = {name: list(chunks) for name, chunks in history.parts().items()}
        columns = {}
        for name in PARTS:
            file = io.BytesIO(b"before" + b"".join(parts[name]))
            columns[name] = Column(scratch, (file, 6, len(file.getvalue()) - 6))
        back = History.resume(columns["leaves"], columns["times"], columns["digests"], columns["slots"], scratch)
        assert back == history
        for held in (back, history):
            held.append("ab" * 32, 8950, "cd" * 32)
            assert held.find("cd" * 32) == 9000
            assert held.find(digests[17]) == 17
            assert held.leaf(8999) == leaves[8999]
        assert back == history
        with pytest.raises(ValueError, match="different sizes"):
            History.resume(columns["leaves"], Column(), columns["digests"], columns["slots"])
        with pytest.raises(ValueError, match="not the slots"):
            History.resume(columns["leaves"], columns["times"], columns["digests"], Column())


def test_scratch_without_a_place_is_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Scratch(tmp_path / "file" / "below") as scratch:
        column = Column(scratch)
        assert column.append(b"abc") == 0
        assert column.append(b"de") == 3
        assert column.read(1, 3) == b"bcd"
        assert b"".join(column.chunks()) == b"abcde"
        with pytest.raises(ScratchFailed):
            column.read(3, 9)
