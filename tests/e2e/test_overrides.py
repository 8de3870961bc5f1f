"""A person on a rollout, and what no person holds up: real services, a real executor and monitor, `calyx` alone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from console import Console, Said
from instances import LIFETIME_S, free_port
from shop import PATIENCE_S, Shop
from terms import GATES

SERVICE = f"""
import http.server, json, os, signal, time
signal.alarm({LIFETIME_S})
begun, version = time.monotonic(), open("version").read()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        requests = int((time.monotonic() - begun) * 200)
        bad = os.path.exists(os.environ["BAD"]) and version != "1"
        body = json.dumps({{"requests": requests, "errors": requests if bad else 0}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""
(ERRORS,) = (gate for gate in GATES if gate["name"] == "error_rate")
NAMES = ("web-1", "web-2")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    shop = Shop(Console(tmp_path, monkeypatch, live=True))
    try:
        yield shop
    finally:
        shop.end()
        for name in NAMES:
            record = tmp_path / name / ".calyx" / "process.json"
            if record.exists():
                try:
                    psutil.Process(json.loads(record.read_bytes())["pid"]).kill()
                except psutil.Error:
                    continue


def begin(shop: Shop, **terms: Any) -> None:
    """Two services that count their requests, on version 1."""
    paths = {"web": {"paths": ["serve.py", "version"]}}
    usual = {"gates": [ERRORS], "tiers": [50, 100], "bake_s": 2, "interval_s": 1, "targets": paths}
    shop.console.init(**{**usual, **terms})
    rows = []
    for name in NAMES:
        url = f"http://127.0.0.1:{free_port()}/"
        environment = {
            "PORT": url.rpartition(":")[2].strip("/"),
            "BAD": str(shop.root / "bad"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        rows.append(
            {
                "name": name,
                "root": str(shop.root / name),
                "process": {"argv": [sys.executable, "serve.py"], "env": environment, "stop_s": 1},
                "probe": {"url": url, "timeout_s": 60},
                "metrics": {"counters": {"url": url}},
            }
        )
    fleet = shop.root / "fleet.json"
    fleet.write_text(json.dumps({"targets": {"web": {"instances": rows}}}))
    shop.console.done("fleet", "propose", str(fleet), "--approve", "--yes")
    first = propose(shop, "1")
    shop.approve(first)
    shop.run("executor", "run", "--until-idle")
    assert versions(shop) == {"1"}


def propose(shop: Shop, version: str, *more: str) -> str:
    return shop.console.propose({"serve.py": SERVICE, "version": version}, *more)


def versions(shop: Shop) -> set[str]:
    return {(shop.root / name / "current" / "version").read_text() for name in NAMES}


def last(shop: Shop, lease: str) -> dict[str, Any]:
    """The progress of a deployment, with nothing in it before its claim."""
    rows = shop.console.run("status", "--json").json["leases"]
    found = next(row["progress"] for row in rows if row["lease_id"] == lease)
    return {"state": "", "tier": 0, "samples": {"whole": 0}, **(found or {})}


@pytest.mark.parametrize("where", ["waiting for its promotion", "paused", "at 100 %"])
def test_breach_takes_everything_back_whatever_a_person_keeps_it_at(shop: Shop, where: str) -> None:
    begin(shop)
    lease = propose(shop, "2", *(["--bake", "4s"] if where == "at 100 %" else ["--manual-promotion"]))
    shop.approve(lease)
    executor = shop.start("executor", "run")
    watching = shop.start("watch", lease)
    if where == "at 100 %":
        shop.until(lambda: (now := last(shop, lease))["state"] == "BAKING" and now["tier"] == 100)
    else:
        # It queues, and it holds: nothing goes on by itself.
        waits = [f"calyx promote {lease}"]
        shop.until(lambda: [row["command"] for row in shop.console.run("inbox", "--json").json] == waits)
        assert versions(shop) == {"1", "2"}
        samples = last(shop, lease)["samples"]["whole"]
        shop.until(lambda: last(shop, lease)["samples"]["whole"] > samples)
        if where == "paused":
            shop.console.done("pause", lease, "--reason", "a look")
            shop.until(lambda: last(shop, lease)["state"] == "PAUSED")
    (shop.root / "bad").touch()
    out, _ = watching.communicate(timeout=PATIENCE_S)
    assert watching.returncode == 3
    assert "ROLLED_BACK" in out
    assert "ROLLBACK_FAILED" not in out
    assert "cp19 (monitor) found a breach at " in out
    assert versions(shop) == {"1"}
    # No order leads it on any more.
    shop.console.refused("promote", lease, "--yes", code="deployment_ended", ends=1)
    executor.terminate()
    executor.communicate(timeout=PATIENCE_S)


def test_rollback_that_fails_is_said_so_everywhere_and_can_be_ordered_again(shop: Shop) -> None:
    begin(shop)
    old = {name: (shop.root / name / "current").resolve() for name in NAMES}
    lease = propose(shop, "2", "--manual-promotion")
    shop.approve(lease)
    executor = shop.start("executor", "run")
    shop.until(lambda: shop.console.run("inbox", "--json").json != [])
    # The old release and everything that it could be made from are gone on the instance that is touched.
    (touched,) = (name for name in NAMES if (shop.root / name / "current" / "version").read_text() == "2")
    objects, kept = shop.console.home / "objects", shop.root / "kept"
    manifests = shop.root / touched / ".calyx" / "manifests"
    shutil.copytree(old[touched], kept / "release", symlinks=True)
    old[touched].chmod(0o755)
    (old[touched] / "version").chmod(0o644)
    (old[touched] / "version").write_text("0")
    gone = next(path for path in objects.rglob("*") if path.is_file() and path.read_bytes() == b"1")
    shutil.move(gone, kept / "object")
    assert manifests.is_dir()
    shop.console.done("abort", lease, "--reason", "no good")
    said = shop.console.run("watch", lease)
    assert said.code == 4
    words = [said, shop.console.run("status"), shop.console.run("lease", "list"), shop.console.run("inbox")]
    executor.terminate()
    out, _ = executor.communicate(timeout=PATIENCE_S)
    for each in (*words, Said(0, out, "")):
        assert "ROLLED_BACK" not in each.out
        assert "rolled back" not in each.out.lower().replace("rollback of", "")
    assert "ROLLBACK_FAILED" in out
    assert "its rollback failed; a person must look" in words[3].out

    # A person mends it, and orders it again.
    shutil.move(kept / "object", gone)
    shop.console.done("rollback", lease, "--reason", "mended")
    assert "ROLLED_BACK" in shop.run("executor", "run", "--until-idle", ends=3)
    assert shop.console.run("watch", lease).code == 3
    assert versions(shop) == {"1"}
    assert shop.console.run("audit", "--full", "--json").json["ok"]


def test_orders_toward_safety_are_taken_at_once_and_twice(shop: Shop) -> None:
    begin(shop)
    lease = propose(shop, "2", "--bake", "60s")
    shop.approve(lease)
    executor = shop.start("executor", "run")
    shop.until(lambda: shop.phase(lease) == "BAKING")
    for _ in range(2):
        shop.console.done("pause", lease)
    shop.until(lambda: shop.phase(lease) == "PAUSED")
    shop.console.done("pause", lease)
    for verb in ("abort", "abort", "rollback"):
        # Whoever is second may find that it is done already, and hears so.
        shop.console.done(verb, lease)
    shop.until(lambda: shop.phase(lease) == "ROLLED_BACK")
    assert versions(shop) == {"1"}
    executor.terminate()
    executor.communicate(timeout=PATIENCE_S)
    deeds = json.loads(shop.console.run("watch", lease, "--json").out)["deeds"]
    assert [each["did"] for each in deeds].count("ordered pause") == 3
    assert deeds[-1]["by"] == "cp20"
