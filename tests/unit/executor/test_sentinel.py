from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from reviewing import NEW, OLD, Bench
from station import fleet, matrix

from executor.agents.review import Report, Reviewer
from executor.agents.sentinel import Sentinel
from executor.trees.workplace import Workplace
from keys.canonical import format_json
from policies.fold.state import LeaseState, State


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def sentinel(bench: Bench, work: str = "work") -> Reviewer:
    station = bench.station
    return Reviewer(
        "sentinel",
        Sentinel(station.objects),
        station.registrar,
        station.signer("cp14"),
        station.objects,
        monotonic=bench.monotonic,
        log=bench.log,
        new_folder=Workplace(bench.root / work).folder,
    )


def review(bench: Bench, subject: tuple[str, str]) -> tuple[str, list[str]]:
    """The verdict and the findings' codes; a pass is cosigned and a fail is not."""
    sentinel(bench).act(bench.station.state)
    note = bench.lease(subject).reviews["cp14"]
    cosigned = bench.votes(subject) == [("cp14", "sentinel")]
    assert cosigned == (note.review.verdict == "pass")
    return note.review.verdict, bench.codes(subject, "cp14")


def git_patch(root: Path, old: dict[str, bytes], new: dict[str, bytes]) -> bytes:
    for name, files in (("a", old), ("b", new)):
        for path, content in files.items():
            place = root / "diff" / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return subprocess.run(
        ["git", "diff", "--no-index", "--no-prefix", "--binary", "a", "b"],
        cwd=root / "diff",
        capture_output=True,
        check=False,
    ).stdout


def propose_patch(bench: Bench, patch: bytes, **changes: Any) -> tuple[str, str]:
    ref = bench.station.objects.put(patch)
    terms = bench.terms(bench.tree(OLD), bench.tree(NEW), ("patch", ref))
    return bench.station.propose(**{**terms, **changes})


def test_true_lease_is_reviewed_and_cosigned(bench: Bench) -> None:
    subject = bench.propose()
    assert review(bench, subject) == ("pass", [])
    note = bench.lease(subject).reviews["cp14"]
    assert bench.lease(subject).ballot.votes[0].review == note.digest
    assert note.review.summary.startswith("changed paths: 2, all named by the lease")
    assert bench.report(subject, "cp14")["lease"] == subject[1]


def test_first_deployment_is_reviewed(bench: Bench) -> None:
    assert review(bench, bench.propose(None)) == ("pass", [])


def test_true_patch_is_reviewed_and_cosigned(bench: Bench) -> None:
    patch = git_patch(bench.root, dict(OLD), dict(NEW))
    assert review(bench, propose_patch(bench, patch)) == ("pass", [])


def test_after_that_is_not_where_the_patch_leads(bench: Bench) -> None:
    patch = git_patch(bench.root, dict(OLD), {**NEW, "VERSION": b"3\n"})
    assert review(bench, propose_patch(bench, patch)) == ("fail", ["after_mismatch"])


def test_patch_that_does_not_apply(bench: Bench) -> None:
    patch = git_patch(bench.root, {**OLD, "VERSION": b"0\n"}, dict(NEW))
    assert review(bench, propose_patch(bench, patch)) == ("fail", ["patch_failed"])


def test_patch_that_leaves_the_tree(bench: Bench) -> None:
    patch = git_patch(bench.root, dict(OLD), dict(NEW)).replace(b"VERSION", b"../VERSION")
    assert review(bench, propose_patch(bench, patch)) == ("fail", ["path_escapes"])


def test_artifact_that_is_no_manifest(bench: Bench) -> None:
    ref = bench.station.objects.put(format_json(["not a tree"]))
    artifact = {"type": "directory", **ref.to_json()}
    changes = [{**bench.terms(bench.tree(OLD), bench.tree(NEW))["changes"][0], "after": ref.sha256}]
    assert review(bench, bench.propose(artifact=artifact, changes=changes)) == ("fail", ["bad_format"])


def test_artifact_swapped_in_the_store(bench: Bench) -> None:
    subject = bench.propose()
    sha256 = bench.lease(subject).lease.artifact.sha256
    stored = bench.station.root / "objects" / sha256[:2] / sha256[2:]
    other = bench.tree({"app.py": b"import evil\n"}).manifest
    stored.chmod(0o600)
    stored.write_bytes(other)
    assert review(bench, subject) == ("fail", ["object_mismatch"])


def test_file_swapped_in_the_store(bench: Bench) -> None:
    subject = bench.propose()
    ref = bench.station.objects.put(NEW["app.py"])
    stored = bench.station.root / "objects" / ref.sha256[:2] / ref.sha256[2:]
    stored.chmod(0o600)
    stored.write_bytes(b"print('bad')\n")
    assert review(bench, subject) == ("fail", ["object_mismatch"])


def test_changed_path_that_the_lease_hides(bench: Bench) -> None:
    subject = bench.propose(paths=["VERSION"])
    assert review(bench, subject) == ("fail", ["path_hidden"])
    assert bench.report(subject, "cp14")["findings"][0]["path"] == "app.py"


def test_named_path_that_does_not_change(bench: Bench) -> None:
    assert review(bench, bench.propose(paths=["VERSION", "app.py", "static/"])) == ("fail", ["path_unchanged"])


def test_path_that_the_policy_does_not_allow(bench: Bench) -> None:
    new = {**NEW, "etc/passwd": b"root\n"}
    subject = bench.propose(new=new)
    assert review(bench, subject) == ("fail", ["path_out_of_scope", "path_out_of_scope"])
    assert [one["path"] for one in bench.report(subject, "cp14")["findings"]] == ["etc/", "etc/passwd"]


def test_prefix_of_an_allowed_directory_is_not_it(bench: Bench) -> None:
    assert review(bench, bench.propose(new={**NEW, "static2": b""})) == ("fail", ["path_out_of_scope"])


@pytest.mark.parametrize("name", ["static/id_ed25519", "static/server.KEY", "static/.env", "static/store.p12"])
def test_file_with_the_name_of_a_key(bench: Bench, name: str) -> None:
    assert review(bench, bench.propose(new={**NEW, name: b"x"})) == ("fail", ["key_file"])


@pytest.mark.parametrize(
    "content",
    [
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
        b"x = '''-----BEGIN PRIVATE KEY-----'''",
        b"-----BEGIN RSA PRIVATE KEY-----",
        b"PRIVATE+KEY+station.example/log+0123abcd+AbCdEfGhIjKlMnOpQrSt",
        b"AGE-SECRET-KEY-1QQPQQPQQPQQPQQPQQPQ",
    ],
)
def test_file_that_holds_a_key_under_another_name(bench: Bench, content: bytes) -> None:
    assert review(bench, bench.propose(new={**NEW, "static/notes.txt": b"a\n" * 99 + content})) == (
        "fail",
        ["key_file"],
    )


def test_certificate_and_public_key_are_no_secret(bench: Bench) -> None:
    files = {"static/ca.pem": b"-----BEGIN CERTIFICATE-----\n", "static/id_ed25519.pub": b"ssh-ed25519 AAAA\n"}
    assert review(bench, bench.propose(new={**NEW, **files})) == ("pass", [])


def test_key_that_was_there_before_is_not_this_changes(bench: Bench) -> None:
    old = {**OLD, "static/id_rsa": b"x"}
    assert review(bench, bench.propose(old, {**NEW, "static/id_rsa": b"x"})) == ("pass", [])


def test_link_that_leaves_the_tree(bench: Bench) -> None:
    before = bench.tree(OLD)
    manifest = format_json(["calyx-tree-v1", ["static", "dir"], ["static/out", "link", "../../etc/passwd"]])
    ref = bench.station.objects.put(manifest)
    subject = bench.propose(
        artifact={"type": "directory", **ref.to_json()},
        changes=[{"before": before.digest, "after": ref.sha256, "instances": ["web-01"]}],
    )
    assert review(bench, subject) == ("fail", ["link_escapes"])


def test_shared_path_that_the_tree_does_not_leave_alone(bench: Bench) -> None:
    bench.station.enact_fleet(fleet(20, shared=["static/logo.svg"]))
    assert review(bench, bench.propose()) == ("fail", ["bad_shared"])


def test_lease_under_a_policy_that_is_not_in_force(bench: Bench) -> None:
    subject = bench.propose()
    station = bench.station
    body = matrix(bake_s=60)
    proposal = station.say(
        "ada",
        "policy",
        {"base": station.state.policy_digest, "reason": "a test", "approve_by": station.after(3600), "policy": body},
    )
    station.vote("ada", ("policy", proposal.digest), "governor")
    assert review(bench, subject) == ("fail", ["policy_moved"])


def test_missing_object_is_no_review_and_is_tried_again(bench: Bench) -> None:
    subject = bench.propose()
    content = NEW["app.py"]
    ref = bench.station.objects.put(content)
    (bench.station.root / "objects" / ref.sha256[:2] / ref.sha256[2:]).unlink()
    agent = sentinel(bench)
    agent.act(bench.station.state)
    assert bench.lease(subject).reviews == {}
    assert "object_missing" in bench.lines[-1]
    bench.station.objects.put(content)
    agent.act(bench.station.state)
    assert bench.lease(subject).reviews == {}, "tried again before its time"
    bench.ticks += 1
    agent.act(bench.station.state)
    assert bench.lease(subject).reviews["cp14"].review.verdict == "pass"


def test_missing_manifest_of_the_tree_before_is_no_review(bench: Bench) -> None:
    changes = bench.terms(bench.tree(OLD), bench.tree(NEW))["changes"]
    subject = bench.propose(changes=[{**changes[0], "before": "ab" * 32}])
    sentinel(bench).act(bench.station.state)
    assert bench.lease(subject).reviews == {}


def test_lease_is_reviewed_once(bench: Bench) -> None:
    bench.propose()
    agent = sentinel(bench)
    agent.act(bench.station.state)
    size = bench.station.state.size
    agent.act(bench.station.state)
    sentinel(bench).act(bench.station.state)
    assert bench.station.state.size == size


def test_killed_between_review_and_cosignature(bench: Bench) -> None:
    subject = bench.propose()
    fields = {"role": "sentinel", "verdict": "pass", "summary": "", "findings": None}
    note = bench.station.say("cp14", "review", fields, subject)
    sentinel(bench).act(bench.station.state)
    assert [vote.review for vote in bench.lease(subject).ballot.votes] == [note.digest]


def test_own_withdrawal_is_not_overruled(bench: Bench) -> None:
    subject = bench.propose()
    sentinel(bench).act(bench.station.state)
    bench.station.say("cp14", "objection", {"verb": "withdraw", "reason": "doubt"}, subject)
    sentinel(bench).act(bench.station.state)
    assert len(bench.lease(subject).ballot.votes) == 1
    assert bench.lease(subject).ballot.standing() == []


def test_denied_expired_and_claimed_leases_are_left_alone(bench: Bench) -> None:
    station = bench.station
    denied, claimed = bench.propose(), bench.propose()
    station.say("ada", "objection", {"verb": "deny", "reason": "no"}, denied)
    station.approve(claimed, agent="cp14")
    station.take_term()
    station.claim(claimed)
    expired = bench.propose()
    station.clock.tick(7201)
    sentinel(bench).act(station.state)
    assert bench.lease(denied).reviews == {}
    assert bench.lease(expired).reviews == {}
    assert len(bench.lease(claimed).reviews) == 1


def test_review_after_the_window_of_approval_has_no_cosignature(bench: Bench) -> None:
    subject = bench.propose()
    bench.station.clock.tick(3601)
    sentinel(bench).act(bench.station.state)
    assert bench.lease(subject).reviews["cp14"].review.verdict == "pass"
    assert bench.votes(subject) == []


class Broken:
    """An inspection with a defect that one lease finds."""

    def __init__(self, bad: str) -> None:
        self._bad = bad

    def inspect(self, state: State, lease: LeaseState, scratch: Path) -> Report:
        if lease.digest == self._bad:
            raise ZeroDivisionError("hostile\nline")
        return Report("looked at", ())


def test_one_hostile_lease_does_not_stop_the_others(bench: Bench) -> None:
    bad, good = bench.propose(), bench.propose()
    station = bench.station
    agent = Reviewer(
        "sentinel",
        Broken(bad[1]),
        station.registrar,
        station.signer("cp14"),
        station.objects,
        monotonic=bench.monotonic,
        log=bench.log,
    )
    agent.act(station.state)
    assert bench.lease(bad).reviews == {}
    assert bench.lease(good).reviews["cp14"].review.verdict == "pass"
    assert "internal_error: ZeroDivisionError: hostile\\nline" in bench.lines[0]
    assert "\n" not in bench.lines[0]


def test_scratch_is_left_empty(bench: Bench) -> None:
    patch = git_patch(bench.root, dict(OLD), dict(NEW))
    propose_patch(bench, patch)
    sentinel(bench).act(bench.station.state)
    (own,) = (bench.root / "work").iterdir()
    assert list(own.iterdir()) == []


def test_no_directory_to_work_in_fails_no_lease(bench: Bench) -> None:
    subject = bench.propose()
    (bench.root / "gone").touch()
    sentinel(bench, "gone/cp14").act(bench.station.state)
    assert "cp14" not in bench.lease(subject).reviews
    assert "scratch_failed" in bench.lines[-1]
