"""What real fleets look like, through `calyx` alone: one instance, pinned canaries, hooks, a directory that was there
before, data that outlives releases, archives, patches of several commits, and old releases that go.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console import Console
from instances import SERVICE, free_port, write_files
from programs import require_program
from shop import CPU, Shop

from executor.process_lock import ProcessLock

HOOK = """#!{python} -I
import os, sys, time
with open({log!r}, "a") as log:
    print(os.environ["CALYX_NAME"], os.environ["CALYX_HOOK"], *sys.argv[1:], file=log)
if os.path.exists({log!r} + "." + os.environ["CALYX_HOOK"]):
    print("the balancer is away")
    raise SystemExit(7)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()


def begin(shop: Shop, rows: list[dict[str, Any]], **terms: Any) -> None:
    """A ledger with that fleet. Instances have no process of ours: what is deployed is files."""
    paths = {"web": {"paths": ["serve.py", "version", "conf/", "data", "new", "newer"]}}
    usual = {"gates": [CPU], "tiers": [5, 25, 100], "bake_s": 1, "interval_s": 1, "targets": paths}
    shop.console.init(**{**usual, **terms})
    fleet = shop.root / "fleet.json"
    fleet.write_text(json.dumps({"targets": {"web": {"instances": rows, "max_unavailable": 3}}}))
    shop.console.done("fleet", "propose", str(fleet), "--approve", "--yes")


def row(shop: Shop, name: str, **more: Any) -> dict[str, Any]:
    """An instance with a service of ours."""
    port = free_port()
    process = {"argv": [sys.executable, "serve.py"], "env": {"PORT": str(port), "PYTHONDONTWRITEBYTECODE": "1"}}
    probe = {"url": f"http://127.0.0.1:{port}/", "timeout_s": 60}
    return {"name": name, "root": str(shop.root / name), "process": process, "probe": probe, **more}


def end_services(shop: Shop, rows: list[dict[str, Any]]) -> None:
    for each in rows:
        record = Path(each["root"]) / ".calyx" / "process.json"
        if record.exists():
            subprocess.run(["kill", "-9", str(json.loads(record.read_bytes())["pid"])], check=False)


def deploy(shop: Shop, lease: str, ends: int = 0) -> str:
    shop.approve(lease)
    return shop.run("executor", "run", "--until-idle", ends=ends)


def version(shop: Shop, name: str) -> str:
    return (shop.root / name / "current" / "version").read_text()


def test_one_instance_is_one_tier_and_has_hooks_data_and_a_life_before(shop: Shop) -> None:
    """A directory that somebody put there is taken over by an archive, and given back."""
    script, log = shop.root / "balance", shop.root / "balance.log"
    write_files(shop.root, {"balance*": HOOK.format(python=sys.executable, log=str(log))})
    hooks = {verb: {"argv": [str(script), verb], "timeout_s": 60} for verb in ("out", "in")}
    write_files(shop.root / "web-1" / "current", {"serve.py": SERVICE, "version": "by hand"})
    write_files(shop.root / "web-1" / "shared", {"data/db": "precious"})
    (shop.root / "web-1" / "current" / "data").symlink_to("../shared/data")
    rows = [row(shop, "web-1", shared=["data"], hooks={"drain": "out", "undrain": "in"})]
    try:
        begin(shop, rows, hooks=hooks)
        source = write_files(shop.root / "build", {"serve.py": SERVICE, "version": "2", "data/ignored": "x"})
        with tarfile.open(shop.root / "build.tgz", "w:gz") as archive:
            archive.add(source, ".")
        asked = shop.console.done("propose", "web", "--archive", str(shop.root / "build.tgz"), "--json")
        lease = json.loads(asked)["lease_id"]
        assert "archive sha256:" in shop.console.done("show", lease)
        said = deploy(shop, lease)
        assert "tier 5 % reaches as far as 100 %: they are one" in said
        assert "tier 25 % reaches as far as 100 %: they are one" in said
        assert said.count("TIER_INTENT") == 1
        assert shop.phase(lease) == "COMPLETED"
        assert version(shop, "web-1") == "2"
        assert (shop.root / "web-1" / "current" / "data" / "db").read_text() == "precious"
        assert log.read_text().splitlines() == ["web-1 drain out", "web-1 undrain in"]

        # A hook that fails on the way back is said, and holds nothing up.
        (shop.root / "balance.log.undrain").touch()
        shop.console.done("rollback", lease, "--reason", "a test")
        said = shop.run("executor", "run", "--until-idle", ends=3)
        assert "the hook in failed" in said
        assert version(shop, "web-1") == "by hand"
        watched = shop.console.run("watch", lease)
        assert watched.code == 3
        assert "WARNING instance web-1: the hook in failed" in watched.out
        assert "the balancer is away" in watched.out
        assert "the balancer is away" in (shop.root / "web-1" / ".calyx" / "hooks.log").read_text()

        # On the way forward it stops the rollout, which goes back.
        (shop.root / "balance.log.undrain").unlink()
        (shop.root / "balance.log.drain").touch()
        second = json.loads(shop.console.done("propose", "web", "--dir", str(source), "--json"))["lease_id"]
        said = deploy(shop, second, ends=3)
        assert "drain_failed" in said
        assert shop.phase(second) == "ROLLED_BACK"
        assert version(shop, "web-1") == "by hand"
        assert shop.console.run("audit", "--full", "--json").json["ok"]
    finally:
        end_services(shop, rows)


PROBE = """#!{python} -I
import os, sys, urllib.request
assert set(os.environ) <= {{"PATH", "LANG", "CALYX_HOOK", "CALYX_NAME", "CALYX_HOOK_OF", "LC_CTYPE"}}
said = urllib.request.urlopen("http://127.0.0.1:" + sys.argv[1]).read().decode()
print("it serves", said)
raise SystemExit(said != "1")
"""


def test_probe_that_is_a_command_of_the_policy_decides_what_stays(shop: Shop) -> None:
    """The second version answers, and does not pass."""
    script = shop.root / "health"
    write_files(shop.root, {"health*": PROBE.format(python=sys.executable)})
    served = row(shop, "web-1", probe={"hook": "health", "timeout_s": 10})
    port = served["process"]["env"]["PORT"]
    try:
        begin(shop, [served], hooks={"health": {"argv": [str(script), port], "timeout_s": 60}})
        first = shop.propose("1")
        assert f"probe's hook health {script} {port}" in " ".join(shop.console.done("show", first).split())
        deploy(shop, first)
        assert "it serves 1" in (shop.root / "web-1" / ".calyx" / "hooks.log").read_text()
        second = shop.propose("2")
        said = deploy(shop, second, ends=3)
        assert "probe_failed" in said
        assert "it serves 2" in said
        assert shop.phase(second) == "ROLLED_BACK"
        assert version(shop, "web-1") == "1"
        assert shop.console.run("audit", "--full", "--json").json["ok"]
    finally:
        end_services(shop, [served])


def test_lease_for_a_probe_that_the_policy_does_not_allow_is_refused(shop: Shop) -> None:
    begin(shop, [row(shop, "web-1", probe={"hook": "health"})])
    source = write_files(shop.root / "source", {"serve.py": SERVICE, "version": "1"})
    refused = shop.console.run("propose", "web", "--dir", str(source))
    assert refused.code == 1
    assert "the policy has no hook health" in refused.err
    assert "hook_not_allowed" in refused.err


def test_pinned_canary_is_first_in_a_fleet_of_four_and_commits_are_one_patch(shop: Shop) -> None:
    require_program("git")
    rows = [row(shop, f"web-{n}", **({"labels": {"canary": "true"}} if n == 3 else {})) for n in range(1, 5)]
    try:
        begin(shop, rows, tiers=[5, 25, 50, 100])
        lease = shop.propose("1")
        said = deploy(shop, lease)
        assert "tier 5 % reaches as far as 25 %: they are one" in said
        applied = [line for line in said.splitlines() if "INSTANCE_APPLIED" in line]
        assert len(applied) == 4
        assert "25 % web-3" in applied[0]
        assert [" 50 % " in applied[1], " 100 % " in applied[2], " 100 % " in applied[3]] == [True] * 3
        assert said.count("BAKE_STARTED") == 3
        watched = shop.console.done("watch", lease)
        assert "tier 25 %: passed, 1 new" in watched

        # Two commits that touch one file, as one file of mails.
        root = write_files(shop.root / "checkout", {"serve.py": SERVICE, "version": "1"})
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgSign=false"]
        for command in (
            ["git", "init", "-q"], ["git", "add", "-A"], [*git, "commit", "-qm", "one"],
            ["sh", "-c", "echo 1 > new; printf 2 > version"], ["git", "add", "-A"], [*git, "commit", "-qm", "two"],
            ["sh", "-c", "git mv new newer; echo 2 >> newer"], ["git", "add", "-A"], [*git, "commit", "-qm", "three"],
        ):  # fmt: skip
            subprocess.run(command, cwd=root, check=True, capture_output=True)
        patch = shop.root / "two.patch"
        made = subprocess.run(["git", "format-patch", "-2", "--stdout"], cwd=root, check=True, capture_output=True)
        patch.write_bytes(made.stdout)
        second = json.loads(shop.console.done("propose", "web", "--patch", str(patch), "--json"))["lease_id"]
        deploy(shop, second)
        for each in rows:
            assert version(shop, each["name"]) == "2"
            assert (Path(each["root"]) / "current" / "newer").read_text() == "1\n2\n"
            assert not (Path(each["root"]) / "current" / "new").exists()

        # What nothing needs goes; by hand only while no executor runs.
        old = Path(rows[0]["root"]) / "releases" / ("e" * 64)
        old.mkdir()
        kept = {path.name for path in old.parent.iterdir()} - {old.name}
        assert len(kept) == 2
        with ProcessLock(shop.console.home / "run" / "cp20.lock", "an executor"):
            assert f"web-1  {old.name}  would be removed" in shop.console.done("executor", "prune", "--dry-run")
            beside = shop.console.refused("executor", "prune", code="already_running", ends=5)
            assert "it removes old releases by itself" in beside.err
        assert old.exists()
        found = shop.console.run("executor", "prune", "--json").json
        assert [each["removed"] for each in found["instances"]] == [[old.name], [], [], []]
        assert {path.name for path in old.parent.iterdir()} == kept
        assert "nothing to remove" in shop.console.done("executor", "prune")
        shop.console.done("rollback", second, "--reason", "a test")
        shop.run("executor", "run", "--until-idle", ends=3)
        assert {version(shop, each["name"]) for each in rows} == {"1"}
        assert shop.console.run("audit", "--full", "--json").json["ok"]
    finally:
        end_services(shop, rows)
