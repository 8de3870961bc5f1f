"""Leases made from other leases, through `calyx` alone: queued behind a rollout, made anew, undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from console import Console
from programs import require_program
from shop import CPU, PATIENCE_S, Shop

PAGE = [f"line {number}\n" for number in range(1, 31)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    require_program("git")
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()


def begin(shop: Shop, **terms: object) -> None:
    """A fleet of two that is only files, and its first content in place."""
    paths = {"web": {"paths": ["page", "other", "empty/"]}}
    shop.console.init(**{"gates": [CPU], "tiers": [50, 100], "bake_s": 1, "interval_s": 1, "targets": paths, **terms})
    rows = [
        {"name": name, "root": str(shop.root / "srv" / name), "metrics": {"usage": "host"}}
        for name in ("web-1", "web-2")
    ]
    fleet = shop.root / "fleet.json"
    fleet.write_text(json.dumps({"targets": {"web": {"instances": rows}}}))
    shop.console.done("fleet", "propose", str(fleet), "--approve", "--yes")
    deploy(shop, shop.console.propose({"page": "".join(PAGE), "other": "1\n"}))


def deploy(shop: Shop, lease: str, ends: int = 0) -> str:
    shop.approve(lease)
    return shop.run("executor", "run", "--until-idle", ends=ends)


def page(**lines: str) -> str:
    """The page with some lines changed: `page(l3="three")`."""
    changed = {int(name[1:]): f"{text}\n" for name, text in lines.items()}
    return "".join(changed.get(number, line) for number, line in enumerate(PAGE, 1))


def patch(shop: Shop, name: str, line: int, text: str, old: str | None = None) -> Path:
    """A patch that changes one line of the page."""
    around = [f" line {n}\n" for n in range(line - 3, line + 4) if 1 <= n <= 30]
    at = around.index(f" line {line}\n")
    around[at : at + 1] = [f"-{old or f'line {line}'}\n", f"+{text}\n"]
    start, size = line - 3, len(around) - 1
    head = f"diff --git a/page b/page\n--- a/page\n+++ b/page\n@@ -{start},{size} +{start},{size} @@\n"
    path = shop.root / name
    path.write_text(head + "".join(around))
    return path


def served(shop: Shop) -> set[str]:
    return {(shop.root / "srv" / name / "current" / "page").read_text() for name in ("web-1", "web-2")}


def asked(shop: Shop, *arguments: str) -> str:
    return str(json.loads(shop.console.done(*arguments, "--json"))["lease_id"])


def queue(shop: Shop) -> tuple[str, str]:
    """A rollout that waits at its first tier, and another lease behind it, under both keys."""
    first = asked(shop, "propose", "web", "--patch", str(patch(shop, "p5", 5, "five")), "--manual-promotion")
    shop.approve(first)
    executor = shop.start("executor", "run")
    shop.until(lambda: shop.console.run("inbox", "--json").json[:1] != [])
    shop.until(lambda: shop.phase(first) == "BAKING")
    # Drafted, signed and queued while the first one is at its first tier.
    change = str(patch(shop, "p20", 20, "twenty"))
    second = asked(shop, "lease", "issue", "--onto", first, "--patch", change)
    steps = shop.console.run("check", second, "--json").json["steps"]
    assert [step["step"] for step in steps if not step["ok"]] == [5, 6, 8, 9]
    agent = shop.start("agent", "run", "cp14")
    shop.console.done("approve", second, "--yes")
    shop.until(
        lambda: [s["step"] for s in shop.console.run("check", second, "--json").json["steps"] if not s["ok"]] == [8]
    )
    agent.terminate()
    agent.communicate(timeout=PATIENCE_S)
    row = next(row for row in shop.console.run("lease", "list", "--json").json if row["lease_id"] == second)
    assert row["state"] == "open"
    assert first in row["note"]
    executor.terminate()
    executor.communicate(timeout=PATIENCE_S)
    return first, second


def test_lease_behind_a_rollout_starts_when_it_is_complete_and_the_first_is_undone_later(shop: Shop) -> None:
    begin(shop)
    first, second = queue(shop)
    shop.console.done("promote", first, "--yes")
    shop.run("executor", "run", "--until-idle")
    assert [shop.phase(first), shop.phase(second)] == ["COMPLETED", "COMPLETED"]
    assert served(shop) == {page(l5="five", l20="twenty")}

    said = shop.console.refused("rollback", first, code="superseded", ends=1)
    assert f"{second} changed web-" in said.err
    assert f"hint: calyx rollback {first} --revert" in said.err
    shop.console.refused("rollback", second, "--revert", code="not_superseded", ends=1)
    shop.console.refused("rollback", first, "--revert", "--as", "ada", code="revert_misplaced", ends=2)
    shop.console.refused("rollback", second, "--json", code="json_misplaced", ends=2)
    told = shop.console.run("rollback", first, "--revert", "--json", "--reason", "five was better as it was").json
    assert told["undoes"] == first
    revert = told["lease_id"]
    shown = shop.console.done("show", revert)
    assert f"undo {first}" in shown
    assert "-five" in shown
    view = shop.console.run("lease", "show", revert, "--json").json
    assert view["lease"]["artifact"]["type"] == "patch"
    # Nothing happens before both keys are there.
    shop.run("executor", "run", "--until-idle")
    assert served(shop) == {page(l5="five", l20="twenty")}
    deploy(shop, revert)
    assert served(shop) == {page(l20="twenty")}

    # What is undone cannot be undone again; and the first content came from nothing.
    shop.console.refused("rollback", first, "--revert", code="revert_conflict", ends=1)
    leases = shop.console.run("lease", "list", "--json").json
    shop.console.refused("rollback", leases[0]["lease_id"], "--revert", code="no_way_back", ends=1)
    assert shop.console.run("audit", "--full", "--json").json["ok"]


def test_lease_behind_a_rollout_that_goes_back_has_moved_bases_and_is_made_anew(shop: Shop) -> None:
    begin(shop)
    first, second = queue(shop)
    shop.console.refused("lease", "rebase", second, code="target_busy", ends=1)
    shop.console.refused("lease", "rebase", second, "--onto", first, code="still_fits", ends=1)
    shop.console.refused("lease", "rebase", first, code="lease_consumed", ends=1)
    hasty = shop.console.run("propose", "web", "--patch", str(patch(shop, "p10", 10, "ten")))
    assert (hasty.code, f"--onto {first} follows on it" in hasty.err) == (0, True)
    shop.console.done("abort", first, "--reason", "no good")
    shop.run("executor", "run", "--until-idle", ends=3)
    assert shop.phase(first) == "ROLLED_BACK"
    assert served(shop) == {page()}
    row = next(row for row in shop.console.run("lease", "list", "--json").json if row["lease_id"] == second)
    assert (row["state"], f"calyx lease rebase {second}" in row["note"]) == ("base_moved", True)
    watched = shop.console.run("watch", second)
    assert watched.code == 1
    assert f"hint: calyx lease rebase {second}" in watched.err
    shop.console.refused("propose", "--onto", first, "--patch", str(shop.root / "p20"), code="base_moved", ends=1)

    anew = json.loads(shop.console.done("lease", "rebase", second, "--json"))
    assert anew["replaces"] == second
    third = anew["lease_id"]
    assert third != second
    shop.console.refused("approve", second, "--yes", code="lease_denied", ends=1)
    shop.console.refused("lease", "rebase", second, code="lease_denied", ends=1)
    shop.console.refused("lease", "rebase", third, code="still_fits", ends=1)
    assert f"(replaces {second})" in shop.console.done("lease", "show", third)
    deploy(shop, third)
    assert served(shop) == {page(l20="twenty")}
    assert shop.console.run("audit", "--full", "--json").json["ok"]


def test_patch_that_no_longer_applies_is_a_conflict_in_one_line(shop: Shop) -> None:
    begin(shop, tiers=[100])
    late = asked(shop, "propose", "web", "--patch", str(patch(shop, "a", 5, "five")))
    deploy(shop, asked(shop, "propose", "web", "--patch", str(patch(shop, "b", 5, "FIVE"))))
    said = shop.console.refused("lease", "rebase", late, code="rebase_conflict", ends=1)
    assert len(said.err.strip().splitlines()) == 2
    assert late in said.err


def test_directory_is_made_anew_from_what_runs_and_undone_with_its_empty_directories(shop: Shop) -> None:
    begin(shop, tiers=[100])
    late = shop.console.propose({"page": page(), "other": "2\n", "empty/": ""})
    deploy(shop, asked(shop, "propose", "web", "--patch", str(patch(shop, "b", 5, "FIVE"))))
    third = asked(shop, "lease", "rebase", late)
    deploy(shop, third)
    root = shop.root / "srv" / "web-1" / "current"
    assert ((root / "other").read_text(), (root / "empty").is_dir(), served(shop)) == ("2\n", True, {page()})
    deploy(shop, asked(shop, "propose", "web", "--patch", str(patch(shop, "c", 20, "twenty"))))
    revert = shop.console.done("rollback", third, "--revert").split()[0]
    assert shop.console.run("lease", "show", revert, "--json").json["lease"]["artifact"]["type"] == "directory"
    deploy(shop, revert)
    assert ((root / "other").read_text(), (root / "empty").exists()) == ("1\n", False)
    assert served(shop) == {page(l5="FIVE", l20="twenty")}
