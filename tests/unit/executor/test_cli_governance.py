"""`calyx trust`, `policy` and `fleet`: what they show, what they propose, and what they refuse before it is signed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from console import Console

from executor.render.text import AS_ABOVE, Rendering, Section, format_rendering, without_shown
from keys.openssh import fingerprint, new_private_key, store_private_key


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    return console


def new_key(path: Path, seed: int) -> tuple[Path, str]:
    """A key file, and its key id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    private = new_private_key(lambda size: bytes([seed]) * size)
    store_private_key(path, private)
    return path, fingerprint(private.public)


def key_of(console: Console, principal: str) -> str:
    trust = console.state().trust
    assert trust is not None
    found = trust.find_principal(principal)
    assert found is not None
    return fingerprint(found.keys[0].public)


def change(console: Console, noun: str, *arguments: str) -> str:
    """Propose and approve as ada, who governs alone."""
    return console.done(noun, "propose", *arguments, "--approve", "--yes")


@pytest.mark.parametrize("noun", ["trust", "policy", "fleet"])
def test_what_is_shown_as_yaml_is_what_is_in_force(console: Console, tmp_path: Path, noun: str) -> None:
    path = tmp_path / f"{noun}.yaml"
    path.write_text(console.done(noun, "show", "--yaml"), "utf-8")
    console.refused(noun, "propose", str(path), "--yes", code="no_change", ends=1)
    path.with_suffix(".json").write_text(console.done(noun, "show", "--json"), "utf-8")
    console.refused(noun, "propose", str(path.with_suffix(".json")), "--yes", code="no_change", ends=1)


@pytest.mark.parametrize("noun", ["trust", "policy", "fleet"])
def test_both_forms_at_once(console: Console, noun: str) -> None:
    console.refused(noun, "show", "--yaml", "--json", code="two_forms", ends=2)


def test_hooks_of_a_fleet_that_no_policy_has_are_said_before_anything_is_signed(console: Console) -> None:
    place = console.write_fleet()
    fleet = json.loads(place.read_text())
    one, two = fleet["targets"]["web"]["instances"]
    one["probe"], two["hooks"] = {"hook": "health"}, {"drain": "out", "undrain": None}
    place.write_text(json.dumps(fleet))
    said = change(console, "fleet", str(place))
    assert "the fleet would name hooks that the policy does not have: health, out" in said
    hooks = {"out": {"argv": ["/bin/out"], "timeout_s": 5}}
    said = change(console, "policy", str(console.write_policy(hooks=hooks, targets={"web": {"paths": ["app.py"]}})))
    assert "the fleet names hooks that the policy would not have: health" in said


def test_trust_is_shown_by_key_ids(console: Console) -> None:
    said = console.done("trust", "show")
    assert key_of(console, "cp14") in said
    assert "governors 1, operators 1" in said
    assert f"# {key_of(console, 'ada')}" in console.done("trust", "show", "--yaml")


def test_renewal_alone_is_one_command(console: Console) -> None:
    said = change(console, "trust", "--renew", "366d", "--reason", "a year more")
    assert "expires 2027-01-06T09:00:00Z, and did 2027-01-05T09:00:00Z" in said
    assert "it is in force" in said
    trust = console.state().trust
    assert trust is not None
    assert trust.expires == "2027-01-06T09:00:00Z"


def test_expired_root_can_still_be_renewed_and_claims_nothing_until_then(console: Console) -> None:
    console.clock.tick(366 * 86_400)
    said = console.run("status")
    assert "trust root expired" in said.out + said.err
    assert "calyx trust propose --renew 365d --approve" in said.out + said.err
    # The machine was off for a year, and its clock is right.
    console.refused("trust", "propose", "--renew", "365d", "--yes", code="clock_suspect", ends=5)
    change(console, "trust", "--renew", "365d", "--accept-clock")
    assert "WARNING" not in console.done("status")


def test_renewal_that_is_over_before_it_begins(console: Console, tmp_path: Path) -> None:
    root = json.loads(console.done("trust", "show", "--json"))
    root["expires"] = "2026-01-05T09:00:00Z"
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(root))
    console.refused("trust", "propose", str(path), "--yes", code="already_expired", ends=1)


def test_second_key_of_a_person_approves(console: Console, tmp_path: Path) -> None:
    path, keyid = new_key(tmp_path / "second", 21)
    said = change(console, "trust", "--add-key", f"ada={path}.pub")
    assert f"ada: gets the key {keyid}" in said
    proposal = console.done("policy", "propose", "--deactivate", "--yes", "--key", str(path))
    assert "Proposed the policy" in proposal


def test_rotation_of_the_sole_governors_key_needs_the_new_key_too(console: Console, tmp_path: Path) -> None:
    path, keyid = new_key(tmp_path / "next", 22)
    old = key_of(console, "ada")
    said = console.run("trust", "propose", "--add-key", f"ada={path}.pub", "--remove-key", old, "--approve", "--yes")
    assert said.code == 0
    assert "still missing: governors proposed: 0 of 1" in said.out
    assert "--key NEW_KEY" in said.err
    proposal = next(d for d, p in console.state().proposals.items() if p.decided_seq is None)
    assert "it is in force" in console.done("approve", proposal[:12], "--key", str(path), "--yes")
    assert key_of(console, "ada") == keyid


def test_key_taken_from_a_person_who_has_no_other(console: Console) -> None:
    console.refused("trust", "propose", "--remove-key", key_of(console, "ada"), "--yes", code="no_key_left", ends=1)


@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_key_of_a_principal_under_another_comment_and_name(console: Console, tmp_path: Path, who: str) -> None:
    trust = console.state().trust
    assert trust is not None
    principal = trust.find_principal("ada")
    assert principal is not None
    path = tmp_path / "other.pub"
    path.write_text(f"{principal.keys[0].key} somebody-else@laptop\n")
    console.refused("trust", "propose", "--add-key", f"{who}={path}", "--yes", code="key_in_use", ends=1)


def test_private_key_given_for_enrolment(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "next", 23)
    said = console.refused("trust", "propose", "--add-key", f"ada={path}", "--yes", code="private_key_given", ends=2)
    assert path.read_text().splitlines()[1] not in said.err


def test_new_governor_and_a_threshold_of_two(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "ben", 24)
    enrol = ("--enrol", f"ben={path}.pub", "--kind", "human", "--role", "governor", "--role", "approver")
    said = change(console, "trust", *enrol, "--governors", "2")
    assert "enrols human ben (approver, governor), custodian ben" in said
    # The new threshold counts too, and ben is asked.
    assert "still missing: governors proposed: 1 of 2" in said
    proposal = next(d for d, p in console.state().proposals.items() if p.decided_seq is None)
    console.done("approve", proposal[:12], "--as", "ben", "--key", str(path), "--yes")
    trust = console.state().trust
    assert trust is not None
    assert trust.thresholds.governors == 2


def test_threshold_that_nobody_could_meet(console: Console) -> None:
    said = console.refused("trust", "propose", "--governors", "2", "--yes", code="bad_trust_root", ends=1)
    assert "rule trust_root" in said.err


def test_machine_as_governor(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "bot", 25)
    enrol = ("--enrol", f"bot={path}.pub", "--kind", "agent", "--role", "governor")
    console.refused("trust", "propose", *enrol, "--yes", code="bad_trust_root", ends=1)


def test_law_that_is_not_one(console: Console, tmp_path: Path) -> None:
    root = json.loads(console.done("trust", "show", "--json"))
    path = tmp_path / "trust.json"
    for law in (0, 2, True, "1"):
        path.write_text(json.dumps({**root, "law": law}))
        console.refused("trust", "propose", str(path), "--yes", code="bad_format", ends=1)


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (("--renew", "20d"), "in 20 days"),
        (("--renew", "366d"), "ada is the sole governor"),
        (("--remove", "cbo"), "nobody is proposer"),
        (("--remove", "cp20"), "there is no executor"),
        (("--remove", "cp19"), "there is no monitor"),
        (("--remove", "cp14"), "asks for a review by a sentinel, and nobody is one"),
    ],
)
def test_dangers_are_said_before_anything_is_signed(console: Console, arguments: tuple[str, ...], warning: str) -> None:
    size = console.size()
    said = console.run("trust", "propose", *arguments, typed="n\n")
    assert said.code == 1
    assert console.size() == size
    line = next(line for line in said.out.splitlines() if warning in line)
    assert line.startswith("WARNING: ")


def test_only_approver_who_goes_is_warned_about(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "ben", 33)
    enrol = ("--enrol", f"ben={path}.pub", "--role", "governor", "--role", "operator")
    said = console.run("trust", "propose", *enrol, "--remove", "ada", typed="n\n").out
    assert "WARNING: nobody is approver: no lease can be approved" in said
    assert "removes human ada (approver, governor, operator)" in said
    assert "governors in force: ada" in said
    assert "governors proposed: ben" in said


def test_machine_under_an_approvers_custodian_is_warned_about(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "agent", 26)
    enrol = ("--enrol", f"cp15={path}.pub", "--kind", "agent", "--role", "sentinel", "--custodian", "ada")
    said = console.run("trust", "propose", *enrol, typed="n\n")
    assert "WARNING: cp15, a machine, and ada, an approver, have one custodian, ada" in said.out


def test_who_could_complete_the_quorum_is_said(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "ben", 27)
    said = console.run("trust", "propose", "--enrol", f"ben={path}.pub", "--role", "governor", typed="n\n").out
    assert "governors in force: ada" in said
    assert "governors proposed: any 1 of ada, ben" in said


def test_proposal_by_someone_without_the_role_is_refused_before_the_signature(console: Console, tmp_path: Path) -> None:
    path, _ = new_key(tmp_path / "ben", 28)
    change(console, "trust", "--enrol", f"ben={path}.pub", "--role", "approver")
    said = console.refused(
        "policy", "propose", "--deactivate", "--as", "ben", "--key", str(path), "--yes", code="role_missing", ends=1
    )
    assert "rule roles" in said.err


@pytest.mark.parametrize("noun", ["trust", "policy"])
def test_proposal_of_nothing(console: Console, noun: str) -> None:
    console.refused(noun, "propose", "--yes", code="nothing_proposed", ends=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--add-key", "ada"),
        ("--add-key", "=x.pub"),
        ("--compromised", "SHA256:abc"),
        ("--compromised", "SHA256:abc@x"),
        ("--compromised", "@3"),
        ("--role", "approver"),
    ],
)
def test_option_that_says_half(console: Console, arguments: tuple[str, ...]) -> None:
    console.refused("trust", "propose", *arguments, "--yes", code="bad_option", ends=2)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--remove", "zoe"), "unknown_principal"),
        (("--remove-key", "SHA256:" + "A" * 43), "unknown_key"),
        (("--compromised", "SHA256:" + "A" * 43 + "@3"), "unknown_key"),
    ],
)
def test_change_of_what_is_not_there(console: Console, arguments: tuple[str, ...], code: str) -> None:
    console.refused("trust", "propose", *arguments, "--yes", code=code, ends=1)


@pytest.mark.parametrize(
    ("noun", "line"), [("fleet", "+targets/web/max_unavailable: 2"), ("trust", "ada: gets the key")]
)
def test_difference_is_shown_once_where_one_person_proposes_and_approves(
    console: Console, tmp_path: Path, noun: str, line: str
) -> None:
    fleet = json.loads(console.write_fleet().read_text())
    fleet["targets"]["web"]["max_unavailable"] = 2
    (tmp_path / "new.json").write_text(json.dumps(fleet))
    key, _ = new_key(tmp_path / "second", 29)
    words = {"fleet": [str(tmp_path / "new.json")], "trust": ["--add-key", f"ada={key}.pub"]}[noun]
    said = change(console, noun, *words)
    assert (said.count(line), said.count(AS_ABOVE)) == (1, {"fleet": 1, "trust": 2}[noun])


def test_what_differs_from_what_was_shown_is_shown_whole() -> None:
    rendering = Rendering("Proposal", "0" * 64, (Section("Change", lines=("+a: 1", "+b: 2")),))
    assert "  +b: 2" not in format_rendering(without_shown(rendering, ["Change", "  +a: 1", "  +b: 2"]))
    turned = ["Change", "  +b: 2", "  +a: 1"]
    for shown in ((), ["Change", "  +a: 1"], ["Other", "  +a: 1", "  +b: 2"], turned):
        assert without_shown(rendering, shown) == rendering


def test_approval_of_what_is_only_prepared(console: Console, tmp_path: Path) -> None:
    console.refused(
        "trust", "propose", "--renew", "366d", "--approve", "--prepare", str(tmp_path / "p"), code="two_steps", ends=2
    )


def test_history_names_entries_people_keys_and_reasons(console: Console) -> None:
    change(console, "policy", "--deactivate", "--reason", "a quiet\x1b[31m week")
    said = console.done("policy", "history")
    first, second = said.split("From entry ")[1:]
    ada = key_of(console, "ada")
    assert first.startswith("0, 2026-01-05T09:00:00Z: policy ")
    assert f"signed    entry 0, ada, {ada}" in first
    assert second.splitlines()[0].endswith(", in force")
    assert "a quiet<U+001B>[31m week" in second
    assert f"ada, {ada}" in second
    rows = json.loads(console.done("policy", "history", "--json"))
    assert [row["in_force"] for row in rows] == [False, True]
    assert rows[0]["keyid"] == ada
    assert rows[1]["cosignatures"][0]["keyid"] == ada
    assert rows[1]["digest"] == console.state().policy_digest


@pytest.mark.parametrize("noun", ["trust", "policy", "fleet"])
def test_earlier_version_by_entry_and_by_digest_can_be_proposed_again(
    console: Console, tmp_path: Path, noun: str
) -> None:
    arguments = {
        "trust": ["--renew", "700d"],
        "policy": ["--deactivate"],
        "fleet": [str(console.write_fleet(5))],
    }[noun]
    first: dict[str, Any] = json.loads(console.done(noun, "history", "--json"))[0]
    change(console, noun, *arguments)
    path = tmp_path / "again.yaml"
    for name in (str(first["in_force_seq"]), first["digest"], first["digest"][:12].upper()):
        path.write_text(console.done(noun, "show", name, "--yaml"))
    said = change(console, noun, str(path))
    assert "it is in force" in said
    rows = json.loads(console.done(noun, "history", "--json"))
    assert len(rows) == 3
    assert console.done(noun, "show", rows[2]["digest"], "--json") == console.done(
        noun, "show", first["digest"], "--json"
    )
    assert "no difference" in console.done(noun, "diff", first["digest"], rows[2]["digest"])


@pytest.mark.parametrize("name", ["9999", "abc", "a" * 64, "-1", "0" * 11])
def test_version_that_does_not_exist(console: Console, name: str) -> None:
    if name == "-1":
        assert console.run("fleet", "show", name).code == 2
        return
    console.refused("fleet", "show", name, code="unknown_version", ends=1)


def test_difference_of_a_proposal_from_what_is_in_force(console: Console) -> None:
    console.refused("policy", "diff", code="no_proposal", ends=1)
    console.done("policy", "propose", "--deactivate", "--yes")
    said = console.done("policy", "diff")
    assert "-deploy_production/enabled: true" in said
    assert "+deploy_production/enabled: false" in said
    assert said.splitlines()[0].startswith("--- policy ")
    assert said.splitlines()[1].endswith("proposed")
    found = json.loads(console.done("policy", "diff", "--json"))
    assert found["before"]["in_force"]
    assert not found["after"]["in_force"]


def test_difference_of_trust_is_told_in_key_ids(console: Console, tmp_path: Path) -> None:
    path, keyid = new_key(tmp_path / "second", 29)
    console.done("trust", "propose", "--add-key", f"ada={path}.pub", "--yes")
    assert f"ada: gets the key {keyid}" in console.done("trust", "diff")
    assert json.loads(console.done("trust", "diff", "--json"))["meaning"] == [f"ada: gets the key {keyid}"]
    digest = next(d for d, p in console.state().proposals.items() if p.decided_seq is None)
    assert f"ada: gets the key {keyid}" in console.done("show", digest)


def test_leases_that_become_void_are_named_before_the_change(console: Console) -> None:
    lease = console.propose()
    said = console.run("policy", "propose", "--deactivate", typed="n\n").out
    assert f"{lease} becomes void: it names the policy in force now" in said


def test_proposal_that_its_proposer_did_not_approve_is_said_to_wait(console: Console) -> None:
    said = console.run("policy", "propose", "--deactivate", "--approve", typed="y\nn\n")
    digest = next(d for d, p in console.state().proposals.items() if p.decided_seq is None)
    assert said.code == 1
    assert said.err.endswith(f"nothing was signed\nnote: the proposal stands and waits: calyx approve {digest[:12]}\n")


def test_revoked_key_still_audits_and_signs_nothing_more(console: Console, tmp_path: Path) -> None:
    lease = console.propose()
    console.done("approve", lease, "--yes")
    second, _ = new_key(tmp_path / "second", 30)
    change(console, "trust", "--add-key", f"ada={second}.pub")
    old = key_of(console, "ada")
    said = console.done("trust", "propose", "--remove-key", old, "--approve", "--yes", "--key", str(second))
    assert f"the approval of {lease} by ada in entry" in said
    assert "stops counting" in said
    console.refused(
        "deny",
        lease,
        "--reason",
        "no",
        "--key",
        str(console.home / "keys" / "ada.key"),
        "--yes",
        code="key_not_enrolled",
        ends=1,
    )
    assert console.run("audit").code == 0
    assert "no longer holds that key" in console.run("check", lease).out
    again = console.refused("trust", "propose", "--remove-key", old, "--yes", code="unknown_key", ends=1)
    assert "nobody holds the key" in again.err


def test_who_is_to_be_enrolled_finds_the_proposal_in_the_inbox(console: Console, tmp_path: Path) -> None:
    key, _ = new_key(tmp_path / "ben", 33)
    console.done("trust", "propose", "--enrol", f"ben={key}.pub", "--role", "governor", "--governors", "2", "--yes")
    [row] = json.loads(console.done("inbox", "--as", "ben", "--json"))
    assert row["kind"] == "trust"
    console.done("approve", row["digest"], "--yes")
    console.done(*row["command"].split()[1:], "--key", str(key), "--yes")
    trust = console.state().trust
    assert trust is not None
    assert trust.find_principal("ben") is not None
    console.refused("inbox", "--as", "eve", code="unknown_principal", ends=1)


def test_compromise_is_told_with_what_it_taints(console: Console, tmp_path: Path) -> None:
    second, keyid = new_key(tmp_path / "second", 31)
    change(console, "trust", "--add-key", f"ada={second}.pub")
    old = key_of(console, "ada")
    arguments = ("--compromised", f"{old}@1", "--approve", "--yes", "--key", str(second))
    said = console.done("trust", "propose", *arguments)
    assert f"revokes {old} as compromised from entry 1 on" in said
    assert "the fleet in force from entry 2 counted entry 2, by a key that was revoked as compromised: it stays" in said
    assert key_of(console, "ada") == keyid
    audit = console.run("audit")
    assert audit.code == 0
    assert "note: tainted: the fleet in force from entry 2" in audit.out
    history = console.done("trust", "history")
    assert f"revoked   {old} as compromised from entry 1 on" in history
    assert "Tainted by keys that are revoked as compromised" in history
    rows = json.loads(console.done("trust", "history", "--json"))
    assert rows[-1]["compromised"] == [{"keyid": old, "seq": 1}]
    assert {taint["kind"] for taint in rows[-1]["tainted"]} == {"fleet", "trust"}
    assert "TAINTED" in console.done("fleet", "history")
    # It never comes back, not for its owner and not under another type.
    public = tmp_path / "old.pub"
    public.write_text((console.home / "keys" / "ada.key.pub").read_text())
    console.refused(
        "trust", "propose", "--add-key", f"ada={public}", "--yes", "--key", str(second), code="bad_trust_root", ends=1
    )


def test_position_of_a_compromise_moved_to_later_or_past_the_end(console: Console, tmp_path: Path) -> None:
    second, _ = new_key(tmp_path / "second", 32)
    change(console, "trust", "--add-key", f"ada={second}.pub")
    old, key = key_of(console, "ada"), ("--yes", "--key", str(second))
    console.refused("trust", "propose", "--compromised", f"{old}@999", *key, code="bad_trust_root", ends=1)
    console.done("trust", "propose", "--compromised", f"{old}@3", "--approve", *key)
    console.refused("trust", "propose", "--compromised", f"{old}@4", *key, code="bad_position", ends=1)
    console.done("trust", "propose", "--compromised", f"{old}@2", "--approve", *key)
    trust = console.state().trust
    assert trust is not None
    assert [item.position for item in trust.compromised] == [2]


def test_text_of_a_hostile_proposal_is_escaped_wherever_it_is_shown(console: Console) -> None:
    hostile = "evil\x1b]0;title\x07 \u202e txet \u200b"
    console.done("policy", "propose", "--deactivate", "--reason", hostile, "--yes")
    digest = next(d for d, p in console.state().proposals.items() if p.decided_seq is None)
    said = console.done("policy", "show", digest) + console.done("policy", "diff", digest)
    for noun in ("history", "diff"):
        said += console.done("policy", noun, "--json")
    assert not {char for char in said if not char.isprintable()} - {"\n"}


def test_public_key_that_is_not_one(console: Console, tmp_path: Path) -> None:
    path = tmp_path / "bad.pub"
    path.write_text("ssh-rsa AAAA\n")
    said = console.run("trust", "propose", "--add-key", f"ada={path}", "--yes")
    assert said.code == 1
    assert "unsupported_key" in said.err
