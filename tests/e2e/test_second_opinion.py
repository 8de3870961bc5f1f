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
from forging import list_object, policy
from governing import revoke
from law_vector import make_vector
from reject_law import MESSAGE
from reject_records import long_lease
from reject_stories import STORIES, fleet_body
from station import Station, matrix, new_station
from verdicts import (
    FOLDER,
    SCRIPT,
    SECOND,
    Ledger,
    Verdict,
    agree,
    audit_verdict,
    load_stories,
    of_forge,
    second_verdict,
    story_ledger,
    vector_ledger,
)

from ledger.objects import DirectoryObjects
from policies.auditing.audit import audit
from policies.submitter import Draft

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


def test_both_accept_names_of_hooks_that_look_like_a_reference() -> None:
    """Members whose names are data may be called like those of a reference to an object."""
    forge = STORIES["main"]().moments["genesis"].fork()
    hook = {"argv": ["/bin/true"], "timeout_s": 5}
    forge.enact("policy", policy(hooks={"sha256": hook, "size": hook}))
    agree(of_forge(forge))


@pytest.mark.parametrize(
    ("lag", "age", "code"), [(1024, 0, None), (1025, 0, "head_too_old"), (1025, 121, "stale_statement")]
)
def test_both_let_a_machine_lag_1024_entries_and_no_more(lag: int, age: int, code: str | None) -> None:
    """Too long a ledger for a vector."""
    forge = STORIES["small"]().moments["genesis"].fork()
    old = forge.common("ada")["head"]
    for _ in range(lag):
        forge.say("ada", "message", MESSAGE)
    made_at = forge.common("cbo")["made_at"]
    forge.now += age
    forge.forge("cbo", "message", MESSAGE, head=old, made_at=made_at)
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
        "code": None, "seq": None, "message": None,
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
    assert (said["ok"], said["seq"], said["code"]) == (False, seq, "unknown_principal")
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
    # Not 1: nothing was found wrong with a ledger whose place was misspelled.
    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1
