"""One approval, checked by a stranger with `ssh-keygen`, `openssl` and `sha256sum` alone; and every forgery of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from authenticator import TOUCHED, VERIFIED, Token
from console import Console
from governing import principal, propose_trust, revoke, withdraw
from kits import SH, TOOLS, Check, drop, kit_of, seal, subject
from station import Station, new_station

from executor.views.lease_view import view_lease
from keys.openssh import OpenSshKey, fingerprint, format_public, new_private_key
from keys.values import parse_base64
from ledger.proof import InclusionProof, check_inclusion_proof, parse_proof
from policies.submitter import Draft


def test_good_kit(kit: Path, check: Check) -> None:
    said = check(kit)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stderr == ""
    assert all(line.startswith("ok   ") for line in said.stdout.splitlines())
    last = "LEASE-20260105-090000 stands cosigned by ada (approver, entry 5), cp14 (sentinel, entry 7)"
    assert said.stdout.splitlines()[-1] == f"ok   {last}"


def test_log_key_with_a_plus_and_a_slash(tmp_path: Path, check: Check) -> None:
    """A vkey has a plus between its parts, and base64 may have more of them in the last one."""
    station = new_station(tmp_path / "station", seed=3)
    assert {"+", "/"} <= set(str(station.log_key.vkey).split("+", 2)[2])
    lease = station.propose()
    station.approve(lease)
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 0, said.stdout


def test_kit_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    console = Console(tmp_path, monkeypatch)
    console.begin()
    lease = console.propose()
    console.done("approve", lease, "--yes")
    out = tmp_path / "kit"
    console.done("ledger", "export", "--kit", lease, str(out))
    said = check(out)
    assert said.returncode == 0, said.stdout + said.stderr
    console.refused("ledger", "export", "--kit", lease, str(out), code="directory_not_empty", ends=2)
    console.refused("ledger", "export", "--kit", "LEASE-none", str(tmp_path / "no"), code="unknown_lease", ends=1)
    secrets = [path.read_bytes().strip() for path in (console.home / "keys").iterdir() if path.suffix == ".key"]
    for path in out.iterdir():
        data = path.read_bytes()
        assert str(tmp_path).encode() not in data, path.name
        assert not [secret for secret in secrets if secret in data]


def assert_commands_hold(kit: Path) -> str:
    """Every command that the page names holds; what they say."""
    text = (kit / "README.txt").read_text("ascii").replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if line.strip().startswith((*TOOLS, "sh "))]
    assert len(commands) == 5
    said = ""
    for command in commands:
        done = subprocess.run([SH, "-c", command], cwd=kit, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        said += done.stdout
    return said


def test_commands_that_the_readme_names_hold(kit: Path, approved: Station) -> None:
    assert approved.state.leases[subject(approved)[1]].digest in assert_commands_hold(kit)


def test_proofs_of_a_kit_are_those_of_the_log(kit: Path, approved: Station) -> None:
    proofs = sorted(kit.glob("*.tlog-proof"))
    assert len(proofs) == 5
    assert (kit / "log.vkey").read_text() == f"{approved.log_key.vkey}\n"
    for path in proofs:
        proof = parse_proof(path.read_bytes())
        assert isinstance(proof, InclusionProof)
        check_inclusion_proof(proof, approved.log_key.vkey, path.with_suffix(".record").read_bytes())


def test_cosignature_of_another_lease_is_refused(kit: Path, approved: Station, tmp_path: Path, check: Check) -> None:
    other = kit_of(approved, subject(approved, "LEASE-20260105-100000"), tmp_path / "other")
    assert check(other).returncode == 0
    vote = approved.state.leases[subject(approved, "LEASE-20260105-100000")[1]].ballot.votes[0].seq
    for path in other.glob(f"entry-{vote}.*"):
        shutil.copy(path, kit)
    rows = {*(kit / "allowed_signers").read_text().splitlines(), *(other / "allowed_signers").read_text().splitlines()}
    (kit / "allowed_signers").write_text("".join(f"{row}\n" for row in sorted(rows)))
    entries = (kit / "entries").read_text().replace("9 claim", f"{vote} cosignature ben\n9 claim")
    (kit / "entries").write_text(entries)
    seal(kit)
    said = check(kit)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1] == f"NO   3 entry {vote}: not a cosignature by ben for this ledger and lease"


def test_signature_under_another_name_is_refused(kit: Path, check: Check) -> None:
    allowed = kit / "allowed_signers"
    allowed.write_text(allowed.read_text().replace("ada ", "eve "))
    seal(kit)
    assert check(kit).returncode == 1


def test_key_that_no_trust_root_gives_to_its_signer_is_refused(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    fresh = new_private_key(station.random)
    first = enrol(station, format_public(fresh.public))
    station.keys["ada"] = fresh
    lease = station.propose()
    station.vote("ada", lease, "approver")
    station.keys["ada"] = new_private_key(station.random)
    second = enrol(station)
    kit = kit_of(station, lease, tmp_path / "kit")
    # Both roots came along: the one of the cosignature's time, and the present one, which has another key.
    assert {f"entry-{seq}.pae" for seq in (0, first, second)} <= {each.name for each in kit.iterdir()}
    said = check(kit)
    assert said.returncode == 0, said.stdout
    assert "NO" not in said.stdout
    drop(kit, first)
    assert "no trust root in this kit gives its key to ada" in check(kit).stdout


def test_second_key_behind_the_one_that_a_trust_root_gives_is_refused(kit: Path, check: Check) -> None:
    whole, other = (kit / "entry-5.key").read_text(), (kit / "entry-7.key").read_text()
    for forged in (whole + other, other + whole, whole.rstrip("\n")):
        (kit / "entry-5.key").write_text(forged)
        seal(kit)
        assert check(kit).returncode != 0


def test_withdrawal_that_is_listed_last_is_refused(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.approve(lease)
    withdraw(station, "ada", lease)
    kit = kit_of(station, lease, tmp_path / "kit")
    assert f"--   8 entry {station.store.head().size - 1}: ada withdrew" in check(kit).stdout
    rows = (kit / "entries").read_text().splitlines()
    rows.sort(key=lambda row: "objection" in row)
    (kit / "entries").write_text("".join(f"{row}\n" for row in rows))
    seal(kit)
    assert "NO   entries: not the genesis" in check(kit).stdout


def test_other_terms_beside_a_lease_are_refused(kit: Path, check: Check) -> None:
    terms = (kit / "lease.json").read_text()
    (kit / "lease.json").write_text(terms.replace('"target":"web"', '"target":"api"'))
    assert (kit / "lease.json").read_text() != terms
    seal(kit)
    assert check(kit).stdout.splitlines()[-1] == "NO   7 lease: lease.json is another statement"


def test_kit_without_a_cosignature_proves_nothing(kit: Path, check: Check) -> None:
    drop(kit, 5, 7, 9)
    said = check(kit)
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, "NO   no cosignature stands")


def test_signatures_that_nobody_counted_are_not_said_to_suffice(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.review("cp14", lease)
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 0, said.stdout
    assert said.stdout.splitlines()[-1].endswith("; no claim in this kit says that this is enough")


@pytest.mark.parametrize("name", ["a", "entries", "entry-5.sig", "revoked", "zz"])
@pytest.mark.parametrize("listed", [True, False])
def test_pipe_among_the_files_holds_nobody_up(kit: Path, check: Check, name: str, listed: bool) -> None:
    path = kit / name
    data = path.read_bytes() if path.exists() else b""
    path.write_bytes(data)
    seal(kit)
    path.unlink()
    if not listed:
        seal(kit)
    os.mkfifo(path)
    said = check(kit)
    assert (said.returncode, said.stdout) == (1, f"NO   1 files: {name} is not a regular file\n")


def test_claim_that_counts_what_is_not_there_is_refused(kit: Path, check: Check) -> None:
    drop(kit, 7)
    assert "NO   9 entry 9: counts the entries 5,7, which do not both stand here" in check(kit).stdout


def test_revoked_key(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    early, lease = station.propose(), station.propose("LEASE-20260105-100000")
    station.approve(early)
    station.approve(lease, "ben")
    station.approve(lease, "ada", "cp18")
    mine, late = (station.state.leases[each[1]].ballot.votes for each in (early, lease))
    revoke(station, "ada", late[-1].seq - 2)
    assert station.state.trust is not None
    assert station.state.trust.compromised
    said = check(kit_of(station, lease, tmp_path / "late"))
    assert said.returncode == 1
    assert "the key of ada is revoked" in said.stdout.splitlines()[-1]
    assert (tmp_path / "late" / "revoked").read_text().startswith("ssh-ed25519 ")
    # Before the entry from which the key is compromised, its cosignature counts, as in the law.
    said = check(kit_of(station, early, tmp_path / "early"))
    assert said.returncode == 0, said.stdout
    assert (tmp_path / "early" / "revoked").read_bytes() == (tmp_path / "late" / "revoked").read_bytes()
    assert f"entry {mine[0].seq}: ada cosigned" in said.stdout
    assert_commands_hold(tmp_path / "early")


def test_revoked_key_that_a_forger_takes_from_the_list(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.approve(lease)
    revoke(station, "ada", 1)
    kit = kit_of(station, lease, tmp_path / "kit")
    (kit / "revoked").write_bytes(b"")
    seal(kit)
    assert "NO   6 revoked: not the keys" in check(kit).stdout


def test_withdrawn_cosignature_does_not_stand(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.vote("ada", lease, "approver")
    withdraw(station, "ada", lease)
    said = check(kit_of(station, lease, tmp_path / "withdrawn"))
    assert (said.returncode, said.stdout.splitlines()[-1]) == (1, "NO   no cosignature stands")
    vote = station.vote("ada", lease, "approver")
    said = check(kit_of(station, lease, tmp_path / "again"))
    assert said.returncode == 0, said.stdout
    assert f"stands cosigned by ada (approver, entry {vote.seq});" in said.stdout.splitlines()[-1]


def test_denied_lease_is_refused(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.approve(lease)
    withdraw(station, "ben", lease, "deny")
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 1
    assert "ben denied this lease for good" in said.stdout


def test_reason_that_looks_like_another_statement_is_only_text(tmp_path: Path, check: Check) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.approve(lease)
    trick = '","verb":"deny"},"predicateType":"https://station.calyx/genesis/v1","by":"eve","ledger":"\n\\'
    # Every byte that continues a character of UTF-8: shells have uses of their own for some.
    trick += "".join(map(chr, range(0xC0, 0x100)))
    station.say("ada", "objection", {"verb": "withdraw", "reason": trick}, lease)
    station.vote("ada", lease, "approver")
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 0, said.stdout
    assert "--   8 entry 8: ada withdrew\n" in said.stdout


def enrol(station: Station, key: str | None = None) -> int:
    """Bring a trust root into force with the keys that the station has, and one more of ada's; its entry."""
    root = station.trust()
    if key is not None:
        principal(root, "ada")["keys"].append({"key": key, "user_verification": False})
    proposal = propose_trust(station, root, who="ben")
    station.vote("ben", ("trust", proposal.digest), "governor")
    return proposal.seq


@pytest.mark.parametrize(
    ("flags", "says"),
    [(TOUCHED, "by touch"), (TOUCHED | 0x40, "by touch"), (TOUCHED | VERIFIED, "by touch, user verified")],
)
def test_token_s_cosignature(tmp_path: Path, check: Check, flags: int, says: str) -> None:
    station, token = new_station(tmp_path / "station"), Token()

    class Signer:
        principal = "ada"
        keyid = fingerprint(OpenSshKey(token.blob))

        def sign(self, message: bytes, namespace: str) -> bytes:
            return token.sign(namespace, message, flags=flags)

    enrol(station, format_public(OpenSshKey(token.blob)))
    lease = station.propose()
    draft = Draft("cosignature", {"role": "approver", "review": None}, lease)
    station.append(station.sign("ada", draft, signer=Signer()))
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 0, said.stdout
    assert f"cosignature, signed by ada with {Signer.keyid}, {says}\n" in said.stdout
    view = view_lease(station.state, station.state.leases[lease[1]], station.store, station.clock.now)
    assert isinstance(view["cosigners"], list)
    shown = view["cosigners"][0]
    assert isinstance(shown, dict)
    assert parse_base64(str(shown["sig"]))


@pytest.mark.parametrize("more", [0, 1, 5, 22, 246])
def test_trees_of_other_shapes(tmp_path: Path, check: Check, more: int) -> None:
    station = new_station(tmp_path / "station")
    lease = station.propose()
    station.approve(lease)
    for _ in range(more):
        station.say("ada", "message", {"type": "question", "text": "Here?", "to": None, "reply_to": None})
    said = check(kit_of(station, lease, tmp_path / "kit"))
    assert said.returncode == 0, said.stdout
