"""What a person is shown is what the bytes say, and says so where it cannot be shown."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from instances import write_files
from station import Station, fleet, matrix, new_station

from executor.render.bounds import SHORT
from executor.render.changes import describe_change, diff_values
from executor.render.statement import read_statement, render_lease
from executor.render.text import Rendering, format_rendering
from executor.signing.approval import draft_approval, render_subject
from executor.trees.scan import ingest
from executor.trees.tree import Tree
from keys.canonical import Json
from keys.errors import CalyxError
from ledger.record import parse_record
from ledger.statement import parse_statement
from policies.fold.state import LeaseState, ProposalState
from policies.kinds import ABSENT


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def tree(station: Station, name: str, files: dict[str, str | bytes]) -> Tree:
    return ingest(write_files(station.root / name, files), station.objects, ())


def propose(station: Station, before: Tree | None, after: Tree, **changes: Any) -> LeaseState:
    artifact = {"type": "directory", "sha256": after.digest, "size": len(after.manifest)}
    names = sorted(i.name for i in station.state.fleet.targets["web"].instances) if station.state.fleet else []
    group = {"before": before.digest if before else ABSENT, "after": after.digest, "instances": names}
    _, digest = station.propose(artifact=artifact, changes=[group], **changes)
    return station.state.leases[digest]


def shown(station: Station, subject: LeaseState | ProposalState) -> str:
    rendering = render_subject(station.state, subject, station.store, station.objects, station.clock.now)
    return "\n".join(format_rendering(rendering))


def test_everything_that_the_lease_binds_is_shown(station: Station) -> None:
    old, new = tree(station, "old", {"app.py": "print(1)\n"}), tree(station, "new", {"app.py": "print(2)\n"})
    lease = propose(station, old, new)
    text = shown(station, lease)
    for expected in (
        lease.digest,
        "asked by    cbo in entry 4",
        "a new version",
        "a test",
        f"from    {old.digest}",
        f"to      {new.digest}",
        "20: web-01",
        "local /srv/web-01",
        "changes  file of 9 bytes to file of 9 bytes: app.py",
        "-print(1)",
        "+print(2)",
        "5 %, 25 %, 100 %",
        "30 s a tier, a sample every 15 s",
        "gate error_rate",
        "2026-01-05T10:00:00Z (in 60 min)",
        "5 open  one human approver",
    ):
        assert expected in text, expected


def test_another_statement_is_not_shown_for_this_lease(station: Station) -> None:
    new = tree(station, "new", {"app.py": "print(2)\n"})
    lease = propose(station, None, new)
    with pytest.raises(CalyxError) as caught:
        read_statement(station.store, lease.seq - 1, lease.digest)
    assert caught.value.code == "ledger_corrupt"
    intent = read_statement(station.store, lease.seq - 1, _digest_at(station, lease.seq - 1))
    with pytest.raises(CalyxError, match="is of the kind intent"):
        render_lease(station.state, lease, intent, station.objects, station.clock.now)


def _digest_at(station: Station, seq: int) -> str:
    return next(parse_statement(parse_record(data).envelope.body).digest for data in station.store.read(seq, seq + 1))


def test_path_that_the_signed_list_hides_is_a_warning(station: Station) -> None:
    new = tree(station, "new", {"app.py": "x = 1\n", "static/": "", "static/backdoor.js": "steal()\n"})
    text = shown(station, propose(station, None, new, paths=["app.py"]))
    assert "WARNING: not in the signed list, and it changes: static/backdoor.js" in text
    assert "+steal()" in text


def test_tree_that_nobody_has_is_said_and_not_passed_over(station: Station) -> None:
    new = tree(station, "new", {"app.py": "x = 1\n"})
    lease = propose(station, None, new)
    (station.root / "objects" / new.digest[:2] / new.digest[2:]).unlink()
    assert "cannot be shown: object_missing" in shown(station, lease)


def test_damaged_object_is_said(station: Station) -> None:
    new = tree(station, "new", {"app.py": "x = 1\n"})
    lease = propose(station, None, new)
    path = station.root / "objects" / new.digest[:2] / new.digest[2:]
    path.chmod(0o644)
    path.write_bytes(b"x" * len(new.manifest))
    assert "cannot be shown: object_mismatch" in shown(station, lease)


def test_binary_file_is_named_and_not_printed(station: Station) -> None:
    new = tree(station, "new", {"app.py": b"\x00\x01\x02", "logo": b"\xff\xfe"})
    _, lines = describe_change(ABSENT, new.digest, station.objects)
    assert [line for line in lines if "not text" in line] == [
        f"=== not text, or over 262144 bytes: nothing to SHA-256 {sha256(data).hexdigest()}"
        for data in (b"\x00\x01\x02", b"\xff\xfe")
    ]


def test_link_and_mode_changes_are_shown(station: Station) -> None:
    old = tree(station, "old", {"run": "x\n"})
    source = write_files(station.root / "new", {"run*": "x\n"})
    (source / "ln").symlink_to("run")
    new = ingest(source, station.objects, ())
    paths, lines = describe_change(old.digest, new.digest, station.objects)
    assert paths == ("ln", "run")
    assert "adds     nothing to link to run: ln" in lines
    assert "changes  file of 2 bytes to executable of 2 bytes: run" in lines


def test_removed_file_is_shown(station: Station) -> None:
    old, new = tree(station, "old", {"a": "1\n", "b": "2\n"}), tree(station, "new", {"a": "1\n"})
    paths, lines = describe_change(old.digest, new.digest, station.objects)
    assert paths == ("b",)
    assert "removes  file of 2 bytes to nothing: b" in lines
    assert "-2" in lines


def test_newline_at_the_end_of_a_file_is_no_line_of_its_own(station: Station) -> None:
    new = tree(station, "new", {"app.py": "x = 1\n"})
    _, lines = describe_change(ABSENT, new.digest, station.objects)
    assert lines[lines.index("=== app.py") + 1 :] == ("@@ -0,0 +1 @@", "+x = 1")


def test_missing_newline_at_the_end_of_a_file_is_said(station: Station) -> None:
    old, new = tree(station, "old", {"app.py": "x = 1\n"}), tree(station, "new", {"app.py": "x = 1"})
    _, lines = describe_change(old.digest, new.digest, station.objects)
    assert lines[-3:] == ("-x = 1", "+x = 1", "\\ No newline at end of file")


def test_endless_change_is_cut_and_counted(station: Station) -> None:
    many = tree(station, "many", {f"f{n:03}": "".join(f"{i}\n" for i in range(40)) for n in range(SHORT.files + 10)})
    _, lines = describe_change(ABSENT, many.digest, station.objects)
    assert "and 10 more paths; calyx show --full shows them" in lines
    assert lines[-1].endswith("more lines are not shown; calyx show --full shows them")
    assert len(lines) == SHORT.files + 1 + SHORT.lines + 1


def test_hostile_content_is_escaped_in_the_difference(station: Station) -> None:
    new = tree(station, "new", {"app.py": "a\x1b[2J\nb\u202e\rc\u2028d\n", "n\u200bame": "x"})
    _, lines = describe_change(ABSENT, new.digest, station.objects)
    assert "+a<U+001B>[2J" in lines
    assert "+b<U+202E><U+000D>c<U+2028>d" in lines
    assert any("n<U+200B>ame" in line for line in lines)


def test_reviews_and_votes_so_far_are_shown(station: Station) -> None:
    lease = propose(station, None, tree(station, "new", {"app.py": "x = 1\n"}))
    station.vote("ada", (lease.lease.id, lease.digest), "approver")
    station.review("cp14", (lease.lease.id, lease.digest))
    station.say("ada", "objection", {"verb": "withdraw", "reason": "no"}, (lease.lease.id, lease.digest))
    station.say("ben", "objection", {"verb": "deny", "reason": "no"}, (lease.lease.id, lease.digest))
    text = shown(station, station.state.leases[lease.digest])
    assert "cosigned as approver, entry 5, 2026-01-05T09:00:00Z, withdrawn in entry 8" in text
    assert "as sentinel passes it, entry 6" in text
    assert "says: looked at" in text
    assert "cosigned as sentinel, entry 7" in text
    assert "DENIED it in entry 9" in text


def test_policy_proposal_is_shown_as_its_difference(station: Station) -> None:
    fields = {
        "base": station.state.policy_digest,
        "reason": "a test",
        "approve_by": station.after(60),
        "policy": matrix(bake_s=1, enabled=True),
    }
    digest = station.say("ada", "policy", fields).digest
    text = shown(station, station.state.proposals[digest])
    assert "-deploy_production/bake_s: 30" in text
    assert "+deploy_production/bake_s: 1" in text
    assert "governors in force  0 of 1" in text


def test_proposal_says_why_before_it_is_signed(station: Station) -> None:
    fields = {
        "base": station.state.policy_digest,
        "reason": "a shorter bake\n\x1b[2Jat night",
        "approve_by": station.after(60),
        "policy": matrix(bake_s=1),
    }
    digest = station.say("ada", "policy", fields).digest
    rows = [line.split(maxsplit=1) for line in shown(station, station.state.proposals[digest]).splitlines()]
    why = [row[1] for row in rows if row[:1] == ["reason"]]
    assert why[0] == "a shorter bake"
    assert len(why) == 2
    assert "\x1b" not in why[1]
    assert why[1].endswith("at night")


def test_trust_proposal_shows_the_key_that_comes_in(station: Station) -> None:
    trust = station.trust()
    trust["principals"][0]["roles"] = ["approver", "governor"]
    fields = {"base": station.state.trust_digest, "reason": "a test", "approve_by": station.after(60), "trust": trust}
    digest = station.say("ada", "trust", fields).digest
    text = shown(station, station.state.proposals[digest])
    assert '-principals[ada]/roles[]: "operator"' in text
    assert "governors proposed" in text


def test_what_was_shown_must_be_what_is_signed(station: Station) -> None:
    first = propose(station, None, tree(station, "new", {"app.py": "x = 1\n"}))
    other = Rendering("another", "00" * 32, ())
    with pytest.raises(CalyxError, match="is not what would be signed"):
        draft_approval(first, other)


def test_values_that_agree_have_no_difference() -> None:
    assert diff_values({"a": 1}, {"a": 1}) == ()


def test_what_is_left_out_of_a_long_lease_is_counted(tmp_path: Path) -> None:
    station = Station(tmp_path)
    station.genesis()
    instances = [
        {"name": f"web-{n:02}", "root": f"/srv/web-{n:02}", "process": {"argv": [f"serve-{n}"]}} for n in range(50)
    ]
    station.enact_fleet({"targets": {"web": {"instances": instances}}})
    new = tree(station, "new", {"app.py": "print(1)\n"})
    station.say("cbo", "intent", {"id": "INT-20260105-001", "target": "web", "what": "w\n" * 45, "why": "b"})
    paths = [f"static/{n:03}" for n in range(230)]
    text = shown(station, propose(station, None, new, paths=paths, intent="INT-20260105-001"))
    assert "static/199" in text
    assert "and 30 more paths" in text
    assert "and 30 more instances" in text
    assert "and 10 more commands" in text
    assert "and 6 more lines" in text


def test_switch_is_shown_with_the_whole_way_to_it() -> None:
    # Two members are called `enabled`; whoever approves must see which one it is.
    old: Json = {
        "break_glass": {"enabled": True},
        "enabled": True,
        "gates": [{"name": "cpu", "limit": "1"}, {"name": "tes"}],
    }
    new: Json = {
        "break_glass": {"enabled": False},
        "enabled": True,
        "gates": [{"name": "tes"}, {"name": "cpu", "limit": "2"}],
    }
    lines = diff_values(old, new)
    assert "+break_glass/enabled: false" in lines
    assert '-gates[cpu]/limit: "1"' in lines
    assert '+gates[cpu]/limit: "2"' in lines
    assert diff_values({"a": []}, {"a": {}}) == ("@@ -1 +1 @@", "-a: []", "+a: {}")


def test_commands_of_hooks_are_shown_whoever_names_them(tmp_path: Path) -> None:
    hooks = {name: {"argv": ["/bin/balance", name], "timeout_s": 5} for name in ("out", "in", "other")}
    station = Station(tmp_path, policy=matrix(hooks=hooks))
    station.genesis()
    station.enact_fleet(fleet(2, hooks={"drain": "out", "undrain": "in"}))
    old, new = tree(station, "old", {"app.py": "print(1)\n"}), tree(station, "new", {"app.py": "print(2)\n"})
    text = " ".join(shown(station, propose(station, old, new, hooks={"drain": "other", "undrain": None})).split())
    for row in ("drain hook other", "fleet's drain hook out", "fleet's undrain hook in"):
        assert f"{row} /bin/balance {row.split()[-1]}" in text
