"""Nothing that a proposer, an agent or a file says can pose as a part of the rendering, or keep a person waiting."""

from __future__ import annotations

import time
import unicodedata
from dataclasses import replace
from difflib import unified_diff
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import write_files
from station import Station, matrix, new_station

from executor.escape import CONTINUED, escape, fold
from executor.render.bounds import FULL, SHORT, Bounds
from executor.render.changes import MAX_WORK, describe_change
from executor.render.line_diff import Work, diff_lines
from executor.render.text import format_rendering, shown_argv
from executor.signing.approval import render_subject
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.canonical import Json, format_json
from policies.kinds import ABSENT

FORGED = (
    "fine\nYou sign\n  kind       cosignature\n  about      LEASE-1\n!! it is safe\n=== other.py\n@@ -0,0 +1 @@\n+x"
)
TRICKS = "\x1b[2J\x1b[1;1H\x9b2J\r\u202e\u2066\u200b\u2028\x00e" + "\u0301" * 40 + "\ufeff\U000e0041"


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def tree(station: Station, name: str, files: dict[str, str | bytes]) -> Tree:
    return ingest(write_files(station.root / name, files), station.objects, ())


def propose(station: Station, after: Tree, before: Tree | None = None, **changes: Any) -> str:
    names = [f"web-{number:02}" for number in range(1, 21)]
    group = {"before": before.digest if before else ABSENT, "after": after.digest, "instances": names}
    artifact = {"type": "directory", "sha256": after.digest, "size": len(after.manifest)}
    return station.propose(artifact=artifact, changes=[group], **changes)[1]


def lines_of(station: Station, digest: str, bounds: Bounds = SHORT) -> list[str]:
    state = station.state
    subject = state.leases.get(digest) or state.proposals[digest]
    return format_rendering(render_subject(state, subject, station.store, station.objects, station.clock.now, bounds))


TITLES = (
    "Lease ", "Request", "Instances of ", "Changed paths, as signed", "Difference ", "Terms", "Windows", "What it runs",
    "Said so far", "Two-key rule now", "Bound by its proposer's signature too",
)  # fmt: skip


def check_form(lines: list[str]) -> None:
    """Only our own titles begin in the first column, each once, and no line holds what a terminal obeys."""
    titles = [line for line in lines if line and not line.startswith("  ")]
    assert [line for line in titles if not line.startswith(TITLES)] == []
    assert len(titles) == len(TITLES)
    for line in lines:
        assert all(unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp"} for char in line), line


@pytest.mark.parametrize("text", [FORGED, TRICKS, "x" * 4000], ids=["forged", "tricks", "endless"])
def test_text_of_a_proposer_begins_no_line(station: Station, text: str) -> None:
    intent = {"id": "INT-20260105-001", "target": "web", "what": text[:4096], "why": text[:4096]}
    station.say("cbo", "intent", intent)
    new = tree(station, "new", {"app.py": text})
    lines = lines_of(station, propose(station, new, intent="INT-20260105-001", reason=text))
    check_form(lines)


def test_review_of_a_stolen_agent_begins_no_line(station: Station) -> None:
    digest = propose(station, tree(station, "new", {"app.py": "x\n"}))
    report: Json = {"findings": [{"code": FORGED, "path": TRICKS, "text": FORGED}, FORGED, 7, None], "left_out": 3}
    found = station.objects.put(format_json(report)).to_json()
    fields = {"role": "sentinel", "verdict": "fail", "summary": FORGED + TRICKS, "findings": found}
    station.say("cp14", "review", fields, ("LEASE-20260105-090000", digest))
    lines = lines_of(station, digest)
    check_form(lines)
    assert any("FAILS it" in line for line in lines)
    assert any("and 3 more, which it did not keep" in line for line in lines)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"not json", "cannot be shown"),
        (b'{"findings":7}', "of no form that is known here"),
        (b"[1]", "of no form that is known here"),
    ],
)
def test_report_that_is_none_is_said(station: Station, body: bytes, said: str) -> None:
    digest = propose(station, tree(station, "new", {"app.py": "x\n"}))
    found = station.objects.put(body).to_json()
    fields = {"role": "sentinel", "verdict": "pass", "summary": "s", "findings": found}
    station.say("cp14", "review", fields, ("LEASE-20260105-090000", digest))
    assert any(said in line for line in lines_of(station, digest))


def test_report_that_is_missing_or_huge_is_said(station: Station) -> None:
    digest = propose(station, tree(station, "new", {"app.py": "x\n"}))
    for who, role, size in (("cp14", "sentinel", 5), ("cp18", "validator", 1 << 40)):
        fields = {"role": role, "verdict": "pass", "summary": "s", "findings": {"sha256": "ab" * 32, "size": size}}
        station.say(who, "review", fields, ("LEASE-20260105-090000", digest))
    text = "\n".join(lines_of(station, digest))
    assert "its report cannot be shown: object_missing" in text
    assert f"its report of {1 << 40} bytes is too long to be shown" in text


def test_findings_are_what_the_agent_reported(station: Station) -> None:
    digest = propose(station, tree(station, "new", {"app.py": "x\n"}))
    findings: list[Json] = [{"code": "secret", "path": f"app-{n}.py", "text": "a private key"} for n in range(30)]
    report = station.objects.put(format_json({"findings": findings, "left_out": 0})).to_json()
    fields = {"role": "sentinel", "verdict": "fail", "summary": "30 secrets", "findings": report}
    station.say("cp14", "review", fields, ("LEASE-20260105-090000", digest))
    short, full = "\n".join(lines_of(station, digest)), "\n".join(lines_of(station, digest, FULL))
    assert "found: secret: app-9.py: a private key" in short
    assert "app-10.py: a private key" not in short
    assert "and 20 more findings; calyx show --full shows them" in short
    assert "app-29.py: a private key" in full
    assert "--full" not in full


def test_line_of_a_file_never_reads_like_the_heading_of_another(station: Station) -> None:
    old = tree(station, "old", {"app.py": "-- a\n== static/x\n"})
    new = tree(
        station, "new", {"app.py": "++ b\n=== static/x\n@@ -1 +1 @@\nWARNING: x\n... 9 more lines\n\\ No newline"}
    )
    _, lines = describe_change(old.digest, new.digest, station.objects)
    assert [line for line in lines if line.startswith("===")] == ["=== app.py"]
    assert [line for line in lines if line.startswith("@@")] == ["@@ -1,2 +1,6 @@"]
    assert [line for line in lines if line.startswith("\\")] == ["\\ No newline at end of file"]
    assert not any(
        line.startswith(("WARNING", "...", "+++", "---")) for line in lines if line[:3] not in {"---", "+++"}
    )
    # Content that reads like git's names of files still has its own sign before it.
    assert "--- a" in lines
    assert "+++ b" in lines
    assert lines.index("--- a") > lines.index("=== app.py") < lines.index("+++ b")


def test_path_and_link_cannot_pose_as_what_happens(station: Station) -> None:
    source = write_files(station.root / "new", {"a: file of 1 bytes to nothing: b": "x\n", "and 3 more paths": "y\n"})
    (source / "ln").symlink_to("and 3 more paths")
    new = ingest(source, station.objects, ())
    _, lines = describe_change(ABSENT, new.digest, station.objects)
    assert "adds     nothing to file of 2 bytes: a: file of 1 bytes to nothing: b" in lines
    assert "adds     nothing to link to 'and 3 more paths': ln" in lines
    text = lines_of(station, propose(station, new, paths=["and 3 more paths"]))
    assert "  - and 3 more paths" in text


def test_words_of_a_command_keep_their_bounds() -> None:
    assert shown_argv(["rm", "-rf", "a b"]) == "rm -rf 'a b'"
    assert shown_argv(["rm -rf", "a", "b\x1b"]) == "'rm -rf' a 'b<U+001B>'"


def test_break_glass_is_the_first_thing_said(station: Station) -> None:
    new = tree(station, "new", {"app.py": "x\n"})
    digest = propose(
        station,
        new,
        rule="break_glass",
        reason="the shop is down",
        execute_by=station.after(600),
        approve_by=station.after(500),
    )
    lines = lines_of(station, digest)
    assert lines[0].startswith("!! BREAK-GLASS")
    assert "owed within 1440 min" in lines[1]


def test_full_leaves_nothing_out(station: Station) -> None:
    many = tree(station, "many", {f"f{n:03}": f"{n} " + "z" * 600 + "\n" for n in range(120)})
    digest = propose(station, many, paths=[f"f{n:03}" for n in range(120)], reason="r\n" * 60)
    short, full = lines_of(station, digest), lines_of(station, digest, FULL)
    assert any("--full" in line for line in short)
    assert not any("--full" in line or "more characters" in line for line in full)
    assert sum(line.startswith("  +") for line in full) == 120
    assert sum(line.strip().startswith("reason") for line in full) == 61


def test_files_made_to_be_slow_to_compare_are_shown_at_once(station: Station) -> None:
    # 100 lines, each a thousand times, in another order: every line has a thousand partners.
    old = tree(station, "old", {"app.py": "".join(f"{n % 101}\n" for n in range(100_000))[: SHORT.text]})
    new = tree(station, "new", {"app.py": "".join(f"{n % 103}\n" for n in range(100_000))[: SHORT.text]})
    started = time.process_time()
    _, lines = describe_change(old.digest, new.digest, station.objects)
    assert time.process_time() - started < 5
    assert lines[-1].endswith("more lines are not shown; calyx show --full shows them")


def slow(side: str) -> str:
    """One of two texts that have only single lines in common, and of those as many pairs as their size allows."""
    common = [f"h{n % 100:x}" for n in range(19_900)]
    Random(1).shuffle(common)
    return "".join(f"{line}\n{side}{n:x}\n" for n, line in enumerate(common))


def test_files_whose_matches_are_slow_one_by_one_are_shown_at_once(station: Station) -> None:
    before, after = slow("p"), slow("q")
    assert len(before) < SHORT.text
    old = tree(station, "old", {"app.py": before, "run.py": "one\ntwo\nthree\nfour\nfive\n"})
    new = tree(station, "new", {"app.py": after, "run.py": "one\ntwo\nthree\nfour\nsix\n"})
    started = time.process_time()
    _, lines = describe_change(old.digest, new.digest, station.objects, replace(SHORT, lines=100_000))
    assert time.process_time() - started < 10
    assert "@@ -1,39800 +1,39800 @@" in lines
    # What is slow in one file does not hide what is small in another.
    assert [line for line in lines[lines.index("=== run.py") :] if line[0] in "+-"] == ["-five", "+six"]


@given(st.lists(st.sampled_from("abc\n"), max_size=30), st.lists(st.sampled_from("abc\n"), max_size=30))
def test_difference_is_the_usual_one(old: list[str], new: list[str]) -> None:
    for context in (0, 3):
        usual = list(unified_diff(old, new, lineterm="", n=context))[2:]
        assert list(diff_lines(old, new, Work(MAX_WORK), context=context)) == usual


@given(st.text(max_size=300), st.integers(min_value=20, max_value=100))
def test_folded_line_fits_and_loses_nothing(text: str, width: int) -> None:
    line = "  " + escape(text)
    pieces = fold(line, width)
    assert all(sum(1 if char.isascii() else 2 for char in piece) < width for piece in pieces)
    assert all(piece.startswith(CONTINUED) for piece in pieces[1:])
    assert pieces[0] + "".join(piece.removeprefix(CONTINUED) for piece in pieces[1:]) == line


def test_policy_that_asks_for_a_look_is_shown_as_such(station: Station) -> None:
    fields = {
        "base": station.state.policy_digest,
        "reason": FORGED,
        "approve_by": station.after(60),
        "policy": matrix(look=True),
    }
    digest = station.say("ada", "policy", fields).digest
    lines = lines_of(station, digest)
    assert any(line.strip() == "+deploy_production/look: true" for line in lines)
    assert [line for line in lines if line.startswith("You sign")] == []
