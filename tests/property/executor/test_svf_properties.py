"""The feed of random ledgers: exported at once, in steps with kills between, or printed, it is the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from walk import Walk

from executor.escape import escape
from executor.svf.files import LOCK, SvfFiles
from executor.svf.lines import EVENT_TYPES, MAX_LINE, Feed, Line
from executor.svf.preview import MAX_PREVIEW, preview
from keys.canonical import parse_json
from policies.fold.state import State
from policies.law.step import step


def feed_of(walk: Walk) -> list[Line]:
    """The feed of a walk, read again from its entries."""
    feed, state = Feed(), State()
    for entry in walk.entries:
        state = step(state, entry, walk.objects)
        feed(entry, state)
    return feed.take()


def random_feed(random: Random) -> tuple[Walk, list[Line]]:
    walk = Walk(random)
    walk.begin()
    for _ in range(random.randrange(60, 160)):
        walk.step()
        if random.random() < 0.06:
            # Into another day: an idle ledger, with a deployment that waits.
            walk.now += random.choice((40_000, 90_000, 400_000))
    return walk, feed_of(walk)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.name != LOCK}


def export(directory: Path, lines: list[Line]) -> None:
    with SvfFiles(directory) as files:
        files.take(lines)


def tear(directory: Path, random: Random, durable: dict[str, bytes]) -> None:
    """What a kill or a power cut may leave of what was added to `durable`: any beginning of it, or garbage behind."""
    grown = contents(directory)
    added = [(name, at) for name, data in grown.items() for at in range(len(durable.get(name, b"")), len(data))]
    if not added:
        return
    name, at = random.choice(added)
    for later in grown:
        if later > name:
            (directory / later).unlink()
    (directory / name).write_bytes(grown[name][:at] + random.choice((b"", b"", b"\0" * 20)))


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_feed_in_steps_with_kills_is_the_feed_at_once(random: Random) -> None:
    walk, lines = random_feed(random)
    with TemporaryDirectory() as root:
        once, steps = Path(root) / "once", Path(root) / "steps"
        export(once, lines)
        whole = contents(once)
        assert b"".join(whole.values()) == b"".join(line.data for line in lines)
        read = 0
        while read < len(walk.entries):
            durable = contents(steps) if steps.exists() else {}
            read = min(len(walk.entries), read + random.randrange(1, 40))
            so_far = [line for line in lines if line.seq < read]
            export(steps, so_far)
            if random.random() < 0.7:
                tear(steps, random, durable)
            export(steps, so_far)
            assert b"".join(contents(steps).values()) == b"".join(line.data for line in so_far)
        assert contents(steps) == whole


@settings(max_examples=8)
@given(st.randoms(use_true_random=False))
def test_feed_says_of_every_lease_what_the_ledger_came_to(random: Random) -> None:
    walk, lines = random_feed(random)
    rows = [json.loads(line.data) for line in lines]
    assert [line.seq for line in lines] == sorted(line.seq for line in lines)
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    for line in lines:
        assert len(line.data) <= MAX_LINE
        assert line.data.endswith(b"\n")
        parse_json(line.data[:-1])
    last: dict[str, str] = {}
    for row in rows:
        assert row["metadata"]["event_type"] in EVENT_TYPES
        if row["metadata"]["event_type"].startswith(("deploy_event", "rollback_event")):
            last[row["metadata"]["deployment"]] = row["metadata"]["event_type"]
    ends = {
        "COMPLETED": "deploy_event.COMPLETED",
        "ROLLED_BACK": "rollback_event.COMPLETE",
        "ROLLBACK_FAILED": "rollback_event.FAILED",
        "ABORTED": "deploy_event.ABORTED",
        "HALTED": "deploy_event.HALTED",
        "PAUSED": "deploy_event.PAUSED",
        "ROLLING_BACK": "rollback_event.STARTED",
    }
    for digest, deployment in walk.state.deployments.items():
        phase = deployment.phase.value
        assert phase not in ends or last[digest] == ends[phase]
    claims = [row for row in rows if row["metadata"]["event_type"] == "lease_event.VERIFIED_2KEY"]
    assert len(claims) == len(walk.state.deployments)
    votes = [vote for lease in walk.state.leases.values() for vote in lease.ballot.votes]
    assert sum(row["metadata"]["event_type"] == "lease_event.COSIGNED" for row in rows) == len(votes)


@given(st.text())
def test_preview_is_short_and_inert_wherever_it_is_read(text: str) -> None:
    shown = preview(text)
    assert len(shown) <= MAX_PREVIEW
    assert preview(shown) == shown
    assert escape(shown) == shown
    if text.isascii() and text.isprintable() and len(text) <= MAX_PREVIEW:
        assert shown == text


def test_every_character_that_a_preview_keeps_is_kept_by_the_rule_for_terminals() -> None:
    """That rule follows the Unicode data of the Python that runs, the preview those of 3.2."""
    kept = [char for char in map(chr, range(0x110000)) if not "\ud800" <= char <= "\udfff" and preview(char) == char]
    assert len(kept) > 90_000
    assert [hex(ord(char)) for char in kept if escape(char) != char] == []
