"""Attacks on what was signed elsewhere: other armour, other bytes, another lease, and a signature brought too late."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from authenticator import field, frame, to_sign
from console import Console

from executor.homes.home import Home
from keys.openssh import load_private_key
from keys.sshsig import NAMESPACE_APPROVAL, NAMESPACE_STATEMENT, format_armor, sign
from keys.values import parse_time
from ledger.record import parse_record

BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


@pytest.fixture
def console(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(tmp_path, monkeypatch)
    console.begin(instances=1)
    return console


@pytest.fixture
def prepared(console: Console) -> Path:
    """An approval that waits for its signature."""
    return prepare(console, console.propose(), "for-ada")


def prepare(console: Console, lease: str, name: str) -> Path:
    directory = console.root / name
    console.done("approve", lease, "--prepare", str(directory))
    return directory


def blob_of(console: Console, directory: Path, namespace: str = NAMESPACE_APPROVAL, who: str = "ada") -> bytes:
    """What ssh-keygen would make of what lies there."""
    key = load_private_key(console.home / "keys" / f"{who}.key")
    return sign(key, namespace, (directory / "to-sign").read_bytes())


def put(directory: Path, text: str | bytes) -> None:
    (directory / "to-sign.sig").write_bytes(text.encode() if isinstance(text, str) else text)


def votes(console: Console) -> int:
    return sum(len(lease.ballot.votes) for lease in console.state().leases.values())


def test_change_of_trust_is_shown_to_whoever_attaches_it(console: Console) -> None:
    directory = console.root / "root"
    console.done("trust", "propose", "--renew", "200d", "--prepare", str(directory))
    put(directory, format_armor(blob_of(console, directory, NAMESPACE_STATEMENT)))
    assert '+expires: "2026-07-24T09:00:00Z"' in console.done("attach", str(directory))


def lines_of(blob: bytes, width: int) -> list[str]:
    text = base64.b64encode(blob).decode()
    return [text[at : at + width] for at in range(0, len(text), width)]


def armour(*lines: str, end: str = "\n") -> str:
    return end.join([BEGIN, *lines, END]) + end


SAME_BLOB: dict[str, Any] = {
    "as-written": format_armor,
    "crlf": lambda blob: format_armor(blob).replace("\n", "\r\n"),
    "no-newline-at-the-end": lambda blob: format_armor(blob).removesuffix("\n"),
    "width-64": lambda blob: armour(*lines_of(blob, 64)),
    "width-1": lambda blob: armour(*lines_of(blob, 1)),
    "one-line": lambda blob: armour(*lines_of(blob, 10_000)),
}


@pytest.mark.parametrize("name", SAME_BLOB)
def test_armour_in_other_lines_is_the_same_entry(console: Console, prepared: Path, name: str) -> None:
    """Lines are no part of what is signed; what enters the ledger is the one blob, byte for byte."""
    blob = blob_of(console, prepared)
    put(prepared, SAME_BLOB[name](blob))
    console.done("attach", str(prepared))
    with Home(console.home) as home:
        newest = list(home.open_store().read())[-1]
    assert parse_record(newest).envelope.sig == blob


ODD_ARMOUR: dict[str, Any] = {
    "empty": lambda blob: "",
    "blob-without-armour": lambda blob: blob,
    "header-of-a-key": lambda blob: format_armor(blob).replace("SSH SIGNATURE", "OPENSSH PRIVATE KEY"),
    "header-of-pgp": lambda blob: format_armor(blob).replace("SSH SIGNATURE", "PGP SIGNATURE"),
    "header-in-small-letters": lambda blob: format_armor(blob).replace("SIGNATURE", "signature"),
    "header-missing": lambda blob: format_armor(blob).removeprefix(BEGIN + "\n"),
    "footer-missing": lambda blob: format_armor(blob).removesuffix(END + "\n"),
    "two-armours": lambda blob: format_armor(blob) * 2,
    "another-armour-first": lambda blob: format_armor(b"x" * 90) + format_armor(blob),
    "space-before": lambda blob: " " + format_armor(blob),
    "newline-before": lambda blob: "\n" + format_armor(blob),
    "two-newlines-after": lambda blob: format_armor(blob) + "\n",
    "bytes-after": lambda blob: format_armor(blob) + "approved\n",
    "space-in-a-line": lambda blob: armour(*(" " + line for line in lines_of(blob, 70))),
    "tab-after-a-line": lambda blob: armour(*(line + "\t" for line in lines_of(blob, 70))),
    "comment-line": lambda blob: armour("Comment: ada", *lines_of(blob, 70)),
    "carriage-returns-alone": lambda blob: format_armor(blob).replace("\n", "\r"),
    "padding-where-none-is-due": lambda blob: armour(base64.b64encode(blob).decode() + "=="),
    "padding-doubled": lambda blob: armour(base64.b64encode(blob).decode() + "="),
    "padding-in-the-middle": lambda blob: armour(base64.b64encode(blob[:100]).decode(), *lines_of(blob[100:], 70)),
    "alphabet-of-the-web": lambda blob: armour("-_" + base64.b64encode(blob).decode()[2:]),
    "nul": lambda blob: format_armor(blob) + "\0",
    "not-ascii": lambda blob: format_armor(blob).replace("A", "\N{CYRILLIC CAPITAL LETTER A}", 1),
    "byte-order-mark": lambda blob: b"\xef\xbb\xbf" + format_armor(blob).encode(),
    "over-the-limit": lambda blob: armour(*lines_of(blob, 70), "A" * 9000),
    "trailing-byte-in-the-blob": lambda blob: format_armor(blob + b"\0"),
    "blob-twice": lambda blob: format_armor(blob * 2),
    "blob-cut": lambda blob: format_armor(blob[:-1]),
    "version-2": lambda blob: format_armor(blob.replace(b"SSHSIG\0\0\0\x01", b"SSHSIG\0\0\0\x02")),
    "sha256": lambda blob: format_armor(blob.replace(field(b"sha512"), field(b"sha256"))),
}


def test_odd_armour(console: Console, prepared: Path) -> None:
    """One home for all of them: each is refused, and none leaves anything behind that helps the next."""
    blob = blob_of(console, prepared)
    got_through = []
    for name, change in ODD_ARMOUR.items():
        put(prepared, change(blob))
        size, said = console.size(), console.run("attach", str(prepared))
        if said.code != 1 or not said.err.startswith("error: ") or console.size() != size or votes(console):
            got_through.append((name, said))
    assert not got_through
    put(prepared, format_armor(blob))
    console.done("attach", str(prepared))
    assert votes(console) == 1


def test_padding_tricks(console: Console) -> None:
    """A denial's blob has another length than an approval's, so its base64 ends in padding."""
    lease = console.propose()
    directory = console.root / "denial"
    console.done("deny", lease, "--reason", "no", "--prepare", str(directory))
    blob = blob_of(console, directory, NAMESPACE_STATEMENT)
    text = base64.b64encode(blob).decode()
    bare = text.rstrip("=")
    assert bare != text
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = bare[:-1] + digits[digits.index(bare[-1]) + 1] + text[len(bare) :]
    for trick in (bare, text + "=", text + "====", bare + "=A", "=" + text, spare):
        put(directory, armour(trick))
        console.refused("attach", str(directory), code="bad_format", ends=1)
    put(directory, format_armor(blob))
    console.done("attach", str(directory))


@pytest.mark.parametrize("namespace", ["git", "file", NAMESPACE_STATEMENT])
def test_namespace_of_something_else(console: Console, prepared: Path, namespace: str) -> None:
    put(prepared, format_armor(blob_of(console, prepared, namespace)))
    console.refused("attach", str(prepared), code="wrong_namespace", ends=1)
    assert not votes(console)


def test_empty_namespace(console: Console, prepared: Path) -> None:
    key = load_private_key(console.home / "keys" / "ada.key")
    signed = to_sign("", (prepared / "to-sign").read_bytes())
    inner = field(b"ssh-ed25519") + field(key.sign_raw(signed))
    put(prepared, format_armor(frame(key.public.blob, "", inner)))
    console.refused("attach", str(prepared), code="bad_format", ends=1)


@pytest.mark.parametrize("who", ["cp14", "cbo"])
def test_signature_by_another_principals_key(console: Console, prepared: Path, who: str) -> None:
    put(prepared, format_armor(blob_of(console, prepared, who=who)))
    console.refused("attach", str(prepared), code="unknown_key", ends=1)


def test_bytes_changed_after_signing(console: Console, prepared: Path) -> None:
    put(prepared, format_armor(blob_of(console, prepared)))
    path = prepared / "to-sign"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"nonce":"', b'"nonce":"0', 1))
    assert console.run("attach", str(prepared)).code == 1
    at = data.index(b'"nonce":"') + 9
    path.write_bytes(data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :])
    console.refused("attach", str(prepared), code="bad_signature", ends=1)
    path.write_bytes(data + b"\n")
    assert console.run("attach", str(prepared)).code == 1
    assert not votes(console)


def test_lease_a_prepared_and_lease_b_presented(console: Console) -> None:
    """The bytes decide what is approved; a name on the command line that says otherwise is refused."""
    first = console.propose()
    second = console.propose({"app.py": "print('other')\n"})
    one, two = prepare(console, first, "one"), prepare(console, second, "two")
    put(one, format_armor(blob_of(console, one)))
    console.refused("approve", second, "--attach", str(one), code="other_subject", ends=1)
    # Its signature beside the other's bytes is none.
    shutil.copy(one / "to-sign.sig", two / "to-sign.sig")
    console.refused("attach", str(two), code="bad_signature", ends=1)
    console.done("attach", str(one))
    state = console.state()
    counted = {lease.lease.id: len(lease.ballot.votes) for lease in state.leases.values()}
    assert counted == {first: 1, second: 0}


def test_held_back_over_a_withdrawal(console: Console) -> None:
    lease = console.propose()
    directory = prepare(console, lease, "held")
    put(directory, format_armor(blob_of(console, directory)))
    console.done("withdraw", lease, "--reason", "no", "--yes")
    console.refused("attach", str(directory), code="withdrawn", ends=1)
    assert not votes(console)


def test_attached_again_is_the_entry_that_it_made(console: Console, prepared: Path) -> None:
    put(prepared, format_armor(blob_of(console, prepared)))
    console.done("attach", str(prepared))
    size = console.size()
    assert f"entry {size - 1}" in console.done("attach", str(prepared))
    assert console.size() == size


@pytest.mark.parametrize(("offset", "code"), [(0, None), (1, "approval_expired")])
def test_attached_beside_approve_by(console: Console, prepared: Path, offset: int, code: str | None) -> None:
    put(prepared, format_armor(blob_of(console, prepared)))
    (lease,) = console.state().leases.values()
    console.clock.now = parse_time(lease.lease.approve_by) + offset
    if code is None:
        console.done("attach", str(prepared))
    else:
        console.refused("attach", str(prepared), code=code, ends=1)
    assert votes(console) == (code is None)


def test_prepared_in_another_ledger(console: Console, prepared: Path, tmp_path: Path) -> None:
    other = Console(tmp_path / "other", console.monkeypatch)
    other.root.mkdir()
    other.begin(instances=1)
    foreign = prepare(other, other.propose(), "foreign")
    put(foreign, format_armor(blob_of(other, foreign)))
    console.monkeypatch.setenv("CALYX_HOME", str(console.home))
    console.refused("attach", str(foreign), code="wrong_ledger", ends=1)
    assert not votes(console)


def test_link_or_pipe_in_place_of_the_signature(console: Console, prepared: Path) -> None:
    secret = console.home / "keys" / "ada.key"
    (prepared / "to-sign.sig").symlink_to(secret)
    said = console.refused("attach", str(prepared), code="bad_file", ends=1)
    assert "PRIVATE KEY" not in said.err + said.out
    (prepared / "to-sign.sig").unlink()
    os.mkfifo(prepared / "to-sign.sig")
    console.refused("attach", str(prepared), code="bad_file", ends=1)
