"""The audit and a verifier that shares nothing with it give the same verdict on every ledger, right or wrong."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forging import Forge, digest_of, json_object, key_line, list_object, policy, trust
from governing import revoke
from law_vector import make_vector
from reject_law import MESSAGE
from reject_records import long_lease
from reject_stories import STORIES, deploy, fleet_body, pause, restore, sample, verdict
from station import Station, matrix, new_station
from terms import GATES
from verdicts import (
    FOLDER,
    SCRIPT,
    SECOND,
    Ledger,
    Verdict,
    audit_verdict,
    load_stories,
    second_verdict,
    story_ledger,
    vector_ledger,
)

from keys.canonical import format_json
from keys.values import format_time
from ledger.objects import DirectoryObjects
from policies.audit import audit
from policies.registrar import Draft

PARTS = 12
# Where the two differ in grain, the audit's code and the other's. A field that the files people write may leave out has
# a default in the project's models: bytes without it are read and then found not canonical. The document's shapes know
# no default: to the second opinion a field is missing.
COARSER = {"not_canonical": "bad_format"}


def same(one: Verdict, other: Verdict) -> bool:
    return (one.entry, one.code) == (other.entry, other.code)


@pytest.mark.parametrize("part", range(PARTS))
def test_both_refuse_each_vector_at_its_entry_by_its_code(part: int) -> None:
    stories = load_stories()
    paths = sorted(path for path in FOLDER.glob("*.json") if path.stem != "stories")
    assert len(paths) > 1_400
    odd = []
    for path in paths[part::PARTS]:
        vector = json.loads(path.read_text("ascii"))
        ledger = vector_ledger(stories, vector)
        ours, theirs = audit_verdict(ledger), second_verdict(ledger)
        wanted = (vector["entry"], vector["code"])
        left_out = "left-out" in path.stem and (vector["entry"], COARSER.get(vector["code"])) == (
            theirs.entry,
            theirs.code,
        )
        if (ours.entry, ours.code) != wanted or not (same(ours, theirs) or left_out):
            odd.append((path.stem, wanted, ours, theirs))
    assert odd == []


# Good ledgers.


def agree(ledger: Ledger) -> None:
    ours, theirs = audit_verdict(ledger), second_verdict(ledger)
    assert ours == theirs
    assert ours == Verdict(len(ledger.records), ledger.head().hash, ours.root)


def of_forge(forge: Forge) -> Ledger:
    return Ledger([record.data for record in forge.records], forge.checkpoint(), forge.objects.kept)


@pytest.mark.parametrize("name", STORIES)
def test_both_accept_the_story_that_vectors_begin_with(name: str) -> None:
    agree(story_ledger(load_stories(), name))


def test_both_accept_every_beginning_of_a_story() -> None:
    for tell in STORIES.values():
        for moment in list(tell().moments.values())[1:]:
            agree(of_forge(moment))


def test_second_opinion_finds_the_law_vector_lawful() -> None:
    vector = make_vector()
    objects = {hashlib.sha256(data.encode()).hexdigest(): data.encode() for data in vector["objects"]}
    leaves: list[str] = []
    law = SECOND.Law(SECOND.Objects(lambda digest: io.BytesIO(objects[digest])), leaves)
    for seq, data in enumerate(vector["records"]):
        record = SECOND.parse_record(data.encode(), seq)
        leaves.append(record.leaf)
        law.judge(record)
    phases = {each.lease.says["id"]: each.phase for each in law.deployments.values()}
    assert phases == {name: each["phase"] for name, each in vector["state"]["deployments"].items()}
    cohorts = {each.lease.says["id"]: {str(t): n for t, n in each.cohorts.items()} for each in law.deployments.values()}
    assert cohorts == {name: each["cohorts"] for name, each in vector["state"]["deployments"].items()}


def test_both_accept_lists_kept_as_objects() -> None:
    """300 instances: names in leases, claims and failed rollbacks are objects."""
    forge = STORIES["main"]().moments["genesis"].fork()
    forge.enact("fleet", forge.fleet_object(fleet_body(300)))
    forge.term()
    everyone = [f"web-{number:02}" for number in range(1, 301)]
    ref = list_object(forge, everyone)
    paths = list_object(forge, ["app.py", "static/a"])
    it = forge.lease(1, paths=paths, changes=[{**forge.lease_fields()["changes"][0], "instances": ref}])
    forge.approve(it)
    fields = forge.claim_fields(it)
    groups = [{**each, "instances": list_object(forge, each["instances"])} for each in fields["cohorts"]]
    seen = [{**each, "instances": list_object(forge, each["instances"])} for each in fields["seen"]]
    forge.say("cp20", "claim", {**fields, "cohorts": groups, "seen": seen}, it)
    agree(of_forge(forge))


def test_both_accept_the_longest_record_and_refuse_the_next_longer() -> None:
    """Up to 65,535 bytes; base64 and what else a record holds leave steps of four."""
    forge = STORIES["main"]().moments["fleet"].fork()
    envelope = long_lease(forge, 0)
    assert 65_531 < len(forge.put(envelope).data) <= 65_535
    agree(of_forge(forge))


def test_both_accept_what_no_story_tells() -> None:
    """An answer, a statement that a person prepared days ago, a failed preflight, orders after a breach, a tree."""
    f = STORIES["main"]().moments["sampled"].fork()
    _, asked = f.say("ben", "message", MESSAGE)
    f.say("cp20", "message", {**MESSAGE, "type": "answer", "reply_to": asked, "to": "ben"})
    days_ago, old_head = format_time(f.now), f.common("ada")["head"]
    verdict(f, f.it, 1, "breach")
    for verb in ("pause", "abort", "rollback"):
        f.command("ada", f.it, verb)
    f.now += 3 * 86_400
    f.say("ada", "message", MESSAGE, made_at=days_ago, head=old_head)
    page = f.objects.put(b"a page")
    deep = ["d" * 255 + "/" * (at < 15) for at in range(16)]
    rows: list[Any] = [["".join(deep[:at]).rstrip("/"), "dir"] for at in range(1, 17)]
    rows += [["static", "dir"], ["static/a", "file", page.sha256, page.size], ["to", "link", "t" * 4095]]
    tree = json_object(f.objects.put(format_json(["calyx-tree-v1", *rows])).to_json())
    change = {"before": "absent", "after": tree["sha256"], "instances": ["web-01"]}
    it = f.lease(2, artifact={"type": "directory", **tree}, changes=[change])
    f.event("cp20", it, "PREFLIGHT_FAILED", code="no_space", instance="web-01", text="")
    agree(of_forge(f))


def test_both_accept_a_deployment_that_pauses_and_goes_on() -> None:
    f = STORIES["main"]().moments["sampled"].fork()
    pause(f, f.it)
    f.event("cp20", f.it, "RESUMED", command=None)
    sample(f, f.it, 2)
    verdict(f, f.it, 2)
    f.event("cp20", f.it, "CANARY_PROMOTED", tier=25, to=100)
    f.event("cp20", f.it, "PAUSED", cause="hand", command=f.command("ada", f.it, "pause")[1], text="")
    f.event("cp20", f.it, "RESUMED", command=f.command("ada", f.it, "resume")[1])
    deploy(f, f.it)
    agree(of_forge(f))


def test_both_accept_an_instance_restored_again_in_another_attempt() -> None:
    f = STORIES["main"]().moments["rolling"].fork()
    first, *left = sorted(f.state.deployments[f.it[1]].intended)
    f.event("cp20", f.it, "INSTANCE_RESTORED", instance=first, tree=digest_of(1), rebuilt=False, warning=None)
    f.event("cp20", f.it, "ROLLBACK_FAILED", instances=left, text="")
    order = f.command("ben", f.it, "rollback")
    f.event("cp20", f.it, "ROLLBACK_STARTED", cause="command", command=order[1])
    restore(f, f.it)
    f.event("cp20", f.it, "ROLLED_BACK")
    agree(of_forge(f))


def test_both_bring_nothing_into_force_by_what_was_withdrawn_beforehand() -> None:
    """Although one who stands would be enough by now."""
    f = STORIES["main"]().moments["genesis"].fork()
    it = f.say("ada", "policy", f.proposal("policy", policy(look=True)))
    f.vote("ada", it, "governor")
    before = f.common("ben")["head"]
    f.say("ben", "objection", {"verb": "withdraw", "reason": ""}, it)
    f.enact("trust", trust(thresholds={"governors": 1, "operators": 2}))
    f.say("ben", "cosignature", {"role": "governor", "review": None}, it, head=before)
    f.enact("policy", policy(look=True), voters=("ada",))
    agree(of_forge(f))


YEAR = 31_622_400
LONG_ID, SHORT_IDS = "a" * 64, [f"i{number:02}" for number in range(64)]


def instance_at_limits(number: int, port: str) -> dict[str, Any]:
    """An instance each of whose members is as long, as large or as small as it may be."""
    return {
        "name": f"{number:02}" + "n" * 62,
        "address": "u" * 32 + "@" + ".".join(["h" * 49 + "-" * 13 + "h", *["l"] * 15]) + port,
        "root": "/" + "r" * 1023,
        "host_key": key_line("ada"),
        "labels": dict.fromkeys(SHORT_IDS[:32], "l" * 256),
        "shared": ["s" * 1024, *SHORT_IDS[:63]],
        "process": {
            "argv": ["w" * 1024, *["w"] * 63],
            "env": {"v" * 128: "\t" + "e" * 4095, **{f"v{each}": "" for each in SHORT_IDS[:62]}, "v": ""},
            "stop_s": YEAR,
            "user": LONG_ID,
        },
        "reload": {"argv": [], "kind": "restart", "timeout_s": YEAR},
        "probe": {"status": 599 if number else 100, "timeout_s": 1, "url": "http://" + "~" * 1017},
        "metrics": {
            "usage": "host",
            "counters": {"errors": "e", "requests": "r" * 1024, "url": "https://h"},
            "prometheus": {"cpu": "c", "errors": None, "memory": None, "requests": None, "url": "http://h"},
        },
    }


def test_both_accept_fleets_and_policies_whose_members_are_at_their_limits() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    ports = [
        "",
        *(f":{port}" for port in (1, 9999, 10000, 59999, 60000, 64999, 65000, 65499, 65500, 65529, 65530, 65535)),
    ]
    instances = [instance_at_limits(number, port) for number, port in enumerate(ports)]
    tes = {"path": "/t", "tes": "t", "timestamp": "t"}
    target = {"instances": instances, "max_unavailable": 100_000, "tes": tes}
    f.enact("fleet", f.fleet_object({"targets": {"web": target}}))
    numbers = ["-999999999999999.999999999", "0", "0.0", "-0.1", "9.000000000"]
    gate = {"for_s": YEAR, "missing_s": YEAR, "min_samples": 10_000, "min_requests": 1_000_000_000}
    gates = [{**GATES[0], **gate, "name": each, "limit": numbers[at % 5]} for at, each in enumerate(SHORT_IDS[:32])]
    hook = {"argv": ["w" * 1024, *["w"] * 63], "timeout_s": YEAR}
    glass = {"enabled": True, "max_validity_s": YEAR, "review_within_s": YEAR, "user_verification": False}
    largest = {
        "bake_s": 2_592_000,
        "interval_s": 86_400,
        "retention_s": YEAR,
        "tiers": list(range(1, 101)),
        "gates": gates,
        "hooks": {each: {"argv": ["w"], "timeout_s": 0} for each in SHORT_IDS[:63]} | {LONG_ID: hook},
        "notify": dict.fromkeys(SHORT_IDS, SHORT_IDS[:16]),
        "targets": {"web": {"paths": ["p" * 1024]}},
        "break_glass": glass,
        "reviews": ["sentinel", "validator"],
    }
    f.enact("policy", policy(**largest))
    smallest = {"bake_s": 1, "interval_s": 1, "retention_s": 0, "tiers": [100], "gates": GATES[:1], "targets": {}}
    f.enact("policy", policy(**smallest, reviews=[], notify={SHORT_IDS[0]: []}, hooks={}))
    f.say("ada", "message", {**MESSAGE, "text": "\u2014" * 4096})
    f.say("ada", "message", {**MESSAGE, "text": ""})
    f.say("ada", "message", {**MESSAGE, "text": '\x7f\x1f"\\/'})
    agree(of_forge(f))


def test_both_accept_a_lease_whose_members_are_at_their_limits() -> None:
    f = STORIES["main"]().moments["genesis"].fork()
    f.enact("fleet", f.fleet_object(fleet_body(256)))
    f.term()
    changes = [
        {"before": digest_of(2 * number), "after": digest_of(2 * number + 1), "instances": [f"web-{number + 1:02}"]}
        for number in range(128)
    ]
    paths = ["app.py", "p" * 4096, "static/"]
    f.lease(1, changes=changes, paths=sorted(paths), tiers=list(range(1, 101)), interval_s=1, bake_s=0)
    everyone = [f"web-{number:02}" for number in range(1, 257)]
    f.lease(2, changes=[{"before": "absent", "after": digest_of(1), "instances": everyone}])
    agree(of_forge(f))


def test_both_accept_names_of_hooks_that_look_like_a_reference() -> None:
    """Members whose names are data may be called like those of a reference to an object."""
    forge = STORIES["main"]().moments["genesis"].fork()
    hook = {"argv": ["/bin/true"], "timeout_s": 5}
    forge.enact("policy", policy(hooks={"sha256": hook, "size": hook}))
    agree(of_forge(forge))


@pytest.mark.parametrize(("lag", "code"), [(1024, None), (1025, "head_too_old")])
def test_both_let_a_machine_lag_1024_entries_and_no_more(lag: int, code: str | None) -> None:
    """Too long a ledger for a vector."""
    forge = STORIES["small"]().moments["genesis"].fork()
    old = forge.common("ada")["head"]
    for _ in range(lag):
        forge.say("ada", "message", MESSAGE)
    forge.forge("cbo", "message", MESSAGE, head=old)
    ledger = of_forge(forge)
    ours, theirs = audit_verdict(ledger), second_verdict(ledger)
    assert same(ours, theirs)
    assert ours.code == code


@pytest.mark.parametrize(("size", "code"), [(262_144, None), (262_145, "bad_checkpoint")])
def test_both_read_a_checkpoint_of_262144_bytes_and_no_more(size: int, code: str | None) -> None:
    """With a signature of a witness that nobody knows, as long as there is room for."""
    ledger = story_ledger(load_stories(), "small")
    room = size - len(ledger.note)
    start = "\u2014 " + "w" * ((room - 6) % 4 + 4) + " "
    line = start.encode() + b"A" * (room - len(start.encode()) - 1) + b"\n"
    long = Ledger(ledger.records, ledger.note + line, ledger.objects)
    assert len(long.note) == size
    ours, theirs = audit_verdict(long), second_verdict(long)
    assert same(ours, theirs)
    assert ours.code == code


@pytest.mark.parametrize(("count", "code"), [(32, None), (33, "bad_checkpoint")])
def test_both_read_a_checkpoint_of_32_signatures_and_no_more(count: int, code: str | None) -> None:
    ledger = story_ledger(load_stories(), "small")
    others = "".join(f"\u2014 witness-{number} AAAAAAAA\n" for number in range(1, count))
    signed = Ledger(ledger.records, ledger.note + others.encode(), ledger.objects)
    ours, theirs = audit_verdict(signed), second_verdict(signed)
    assert same(ours, theirs)
    assert ours.code == code


def test_both_accept_256_paths_in_the_statement_itself() -> None:
    forge = STORIES["main"]().moments["fleet"].fork()
    forge.lease(1, paths=[f"static/{number:03}" for number in range(256)])
    agree(of_forge(forge))


# Whole stations on disk, and the script as a stranger runs it.


def opinion(station: Station, *arguments: str) -> Any:
    """What the script says about the ledger as it lies there, while it is open."""
    command = [sys.executable, "-I", str(SCRIPT), str(station.root), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    return said


def both_accept(station: Station) -> None:
    report = audit(station.store, station.objects, remembered=None)
    assert report.findings == []
    said = opinion(station)
    assert said == {
        "ok": True, "size": report.size, "head": report.head.hash, "root": report.root,
        "code": None, "entry": None, "message": None,
    }  # fmt: skip


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path / "station")


def test_both_accept_a_deployment_completed_and_rolled_back(station: Station) -> None:
    lease = station.propose()
    station.begin(lease)
    station.complete(lease)
    both_accept(station)
    order = station.command("ada", lease, "rollback")
    station.event("cp20", lease, "ROLLBACK_STARTED", cause="command", command=order.digest)
    deployment = station.state.deployments[lease[1]]
    for name in sorted(deployment.intended):
        station.event(
            "cp20", lease, "INSTANCE_RESTORED", instance=name, tree=deployment.before[name], rebuilt=False, warning=None
        )
    station.event("cp20", lease, "ROLLED_BACK")
    both_accept(station)


def test_both_accept_a_key_compromised_while_its_deployment_ran(tmp_path: Path) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.begin(lease)
    revoke(station, "ada", station.state.deployments[lease[1]].counted[0])
    station.event("cp20", lease, "PAUSED", cause="tainted", command=None, text="")
    both_accept(station)


def test_both_accept_a_broken_glass_whose_review_is_owed_and_comes(tmp_path: Path) -> None:
    station = new_station(tmp_path / "station", policy=matrix())
    execute_by = station.after(600)
    lease = station.propose(rule="break_glass", reason="an emergency", approve_by=execute_by, execute_by=execute_by)
    for who in ("ada", "ben"):
        station.vote(who, lease, "approver")
    station.take_term()
    station.claim(lease)
    assert station.state.owed_reviews
    both_accept(station)
    station.say("cp14", "review", {"role": "sentinel", "verdict": "fail", "summary": "", "findings": None}, lease)
    assert not station.state.owed_reviews
    both_accept(station)


def test_script_names_the_entry_of_a_forged_record_and_ends_with_1(station: Station) -> None:
    message = {"type": "question", "to": "nobody", "reply_to": None, "text": ""}
    seq = station.force(station.sign("ada", Draft("message", message)))
    said = opinion(station)
    assert (said["ok"], said["entry"], said["code"]) == (False, seq, "unknown_principal")
    told = subprocess.run(
        [sys.executable, str(SCRIPT), str(station.root / "ledger.db")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.stdout.startswith(f"NOT OK: entry {seq}: unknown_principal\n")
    assert told.returncode == 1


def test_script_reads_objects_from_where_it_is_told(station: Station, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (station.root / "objects").rename(moved)
    said = opinion(station)
    assert (said["ok"], said["code"]) == (False, "object_missing")
    assert opinion(station, "--objects", str(moved))["ok"]
    assert DirectoryObjects(moved).find("0" * 64) is None


def test_script_says_that_there_is_no_ledger(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
