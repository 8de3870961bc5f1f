"""Which key is taken, which is never opened, and who is meant when nobody says."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import Held, answering, fake_keygen, held_token, plain_blob, plain_signature, token_of
from programs import require_program
from refusal import refused

from executor.homes.find_signer import find_me, find_signer
from executor.homes.surroundings import look_around
from keys import sshsig
from keys.errors import Unavailable
from keys.keygen_signer import KeygenSigner
from keys.openssh import PrivateKey, format_public, parse_blob, store_private_key
from keys.principals import TrustRoot
from keys.signer import AgentSigner, FileSigner, PersonKey, Signer
from keys.ssh_agent import SshAgent

ADA, ADA_TOO, BEN, STRANGER = (PrivateKey(bytes([seed]) * 32) for seed in (1, 2, 3, 4))
TOKEN = token_of()
PAE = b"DSSEv1 28 application/vnd.in-toto+json 2 {}"
NAMESPACE = sshsig.NAMESPACE_STATEMENT


def line(key: PrivateKey | bytes) -> str:
    return format_public(parse_blob(key) if isinstance(key, bytes) else key.public)


def entry(key: Any) -> dict[str, Any]:
    public, verified = key if isinstance(key, tuple) else (key, False)
    return {"key": line(public), "user_verification": verified}


def root(ada: list[Any], ben: list[Any] | None = None, **others: tuple[str, PrivateKey]) -> TrustRoot:
    """A trust root; a key is a `PrivateKey`, a token's blob, or that with True for verification."""
    people: dict[str, tuple[str, list[Any]]] = {"ada": ("human", ada)}
    if ben is not None:
        people["ben"] = ("human", ben)
    people |= {name: (kind, [key]) for name, (kind, key) in others.items()}
    return TrustRoot.from_json(
        {
            "law": 1,
            "principals": [
                {
                    "id": name,
                    "kind": kind,
                    "custodian": name,
                    "roles": ["approver"] if kind == "human" else [],
                    "keys": [entry(key) for key in keys],
                }
                for name, (kind, keys) in people.items()
            ],
            "thresholds": {"governors": 1, "operators": 1},
            "expires": "2030-01-01T00:00:00Z",
            "compromised": [],
        }
    )


def held(key: PrivateKey, comment: bytes = b"a key") -> Held:
    seed = key._signing.seed
    return Held(plain_blob(seed), lambda data: plain_signature(seed, data), comment)


@dataclass
class Desk:
    """A person's machine."""

    home: Path
    agent: SshAgent | None = None
    said: list[str] = field(default_factory=list)
    asked: list[Path] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def plug(self, *keys: Held) -> None:
        respond = answering(*keys)
        self.agent = SshAgent(lambda request: (respond(request) or b"")[4:])

    def put(self, name: str, key: PrivateKey, passphrase: bytes | None = None, *, public: bool = True) -> Path:
        """A key file in `~/.ssh`."""
        folder = self.home / ".ssh"
        folder.mkdir(exist_ok=True)
        store_private_key(folder / name, key, passphrase, name)
        if not public:
            (folder / f"{name}.pub").unlink()
        return folder / name

    def around(self) -> Any:
        variables = {"SSH_AUTH_SOCK": "/agent"} if self.agent else {}
        return look_around(
            {**variables, **self.variables}, self.home, lambda _: self.agent or never(), self.said.append, self.ask
        )

    def ask(self, path: Path) -> bytes:
        self.asked.append(path)
        return b"right"

    def find(self, *roots: TrustRoot, who: str = "ada", named: Path | None = None, kept: Path | None = None) -> Signer:
        return find_signer(roots, who, named, kept, self.around())

    def me(
        self, *roots: TrustRoot, me: str | None = None, kept: tuple[str, ...] = (), named: Path | None = None
    ) -> str:
        return find_me(roots, me, lambda name: self.home if name in kept else None, self.around(), named).id


def never() -> Any:
    raise AssertionError("nobody asked for an agent")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def keyid(key: PrivateKey) -> str:
    return FileSigner("x", "human", key).keyid


def test_agent_comes_before_every_file(desk: Desk) -> None:
    desk.plug(held(STRANGER), held(ADA_TOO, b"laptop"))
    path = desk.put("id_ed25519", ADA)
    signer = desk.find(root([ADA, ADA_TOO]), kept=path)
    assert isinstance(signer, AgentSigner)
    assert signer.keyid == keyid(ADA_TOO)
    assert desk.said == [f"key {keyid(ADA_TOO)} from the ssh-agent (laptop)"]
    assert sshsig.parse_blob(signer.sign(PAE, NAMESPACE)).key == ADA_TOO.public


def test_key_of_another_person_in_the_agent_is_left_alone(desk: Desk) -> None:
    desk.plug(held(BEN), held(STRANGER))
    signer = desk.find(root([ADA], [BEN]), kept=desk.put("mine", ADA))
    assert isinstance(signer, FileSigner)
    assert (signer.principal, signer.keyid) == ("ada", keyid(ADA))


def test_first_of_several_keys_in_the_agent_is_taken_and_the_others_are_said(desk: Desk) -> None:
    desk.plug(held(ADA_TOO), held(ADA))
    assert desk.find(root([ADA, ADA_TOO])).keyid == keyid(ADA_TOO)
    assert desk.said == [
        f"key {keyid(ADA_TOO)} from the ssh-agent (a key); 1 more of yours there, --key FILE.pub names one"
    ]


def test_key_in_force_comes_before_one_that_is_only_proposed(desk: Desk) -> None:
    desk.plug(held(ADA_TOO), held(ADA))
    assert desk.find(root([ADA]), root([ADA, ADA_TOO])).keyid == keyid(ADA)
    desk.plug(held(ADA_TOO))
    assert desk.find(root([ADA]), root([ADA, ADA_TOO])).keyid == keyid(ADA_TOO)
    with refused("key_missing"):
        desk.find(root([ADA]))


def test_homes_file_comes_before_the_persons_folder(desk: Desk, tmp_path: Path) -> None:
    desk.put("id_ed25519", ADA)
    store_private_key(tmp_path / "kept", ADA_TOO)
    assert desk.find(root([ADA, ADA_TOO]), kept=tmp_path / "kept").keyid == keyid(ADA_TOO)
    assert desk.said == [f"key {keyid(ADA_TOO)} from {tmp_path / 'kept'}"]


@pytest.mark.parametrize("kept", ["gone", "rotated", "none"])
def test_folder_is_searched_when_the_homes_file_is_of_no_use(desk: Desk, tmp_path: Path, kept: str) -> None:
    desk.put("id_ed25519", ADA)
    store_private_key(tmp_path / "rotated", STRANGER, b"secret")
    signer = desk.find(root([ADA]), kept=None if kept == "none" else tmp_path / kept)
    assert signer.keyid == keyid(ADA)
    assert desk.asked == []


def test_key_with_any_name_is_found_by_its_public_half(desk: Desk) -> None:
    desk.put("a_stranger", STRANGER, b"secret")
    path = desk.put("work", ADA, b"right")
    assert desk.find(root([ADA])).keyid == keyid(ADA)
    assert desk.asked == [path]


def test_usual_name_needs_no_public_file(desk: Desk) -> None:
    desk.put("id_ed25519", ADA, public=False)
    assert desk.find(root([ADA])).keyid == keyid(ADA)


def test_key_that_is_not_enrolled_is_never_opened(desk: Desk) -> None:
    desk.put("id_ed25519", STRANGER, b"right")
    desk.put("other", BEN, b"right")
    with refused("key_missing") as refusal:
        desk.find(root([ADA], [BEN]))
    assert desk.asked == []
    for looked in ("no ssh-agent (SSH_AUTH_SOCK is not set)", "no key file that this home knows", "(2 Ed25519 keys"):
        assert looked in refusal.value.message
    assert desk.said == []


def test_private_file_whose_public_half_lies_is_refused_unopened(desk: Desk) -> None:
    path = desk.put("id_ed25519", STRANGER, b"right")
    path.with_name("id_ed25519.pub").write_text(line(ADA) + "\n", "ascii")
    with refused("bad_key_file") as refusal:
        desk.find(root([ADA]))
    assert "another key" in refusal.value.message
    assert desk.asked == []


def test_private_file_without_its_public_file_is_refused_when_it_is_not_enrolled(desk: Desk) -> None:
    desk.put("id_ed25519", STRANGER, b"right", public=False)
    with refused("key_missing"):
        desk.find(root([ADA]))
    assert desk.asked == []


def test_public_file_alone_is_no_key(desk: Desk) -> None:
    path = desk.put("id_ed25519", ADA)
    path.unlink()
    with refused("key_missing"):
        desk.find(root([ADA]))


def test_open_file_of_an_enrolled_key_is_refused_and_no_other_taken(desk: Desk) -> None:
    desk.put("id_ed25519", ADA).chmod(0o644)
    desk.put("second", ADA_TOO)
    with refused("bad_key_mode"):
        desk.find(root([ADA, ADA_TOO]))


def test_odd_things_in_the_folder_stop_nothing(desk: Desk) -> None:
    desk.put("work", ADA)
    folder = desk.home / ".ssh"
    os.mkfifo(folder / "id_ed25519.pub")
    os.mkfifo(folder / "id_ed25519")
    (folder / "big.pub").write_bytes(b"x" * 1_000_000)
    (folder / "big").touch()
    (folder / "folder.pub").mkdir()
    (folder / "folder").mkdir()
    (folder / "loop.pub").symlink_to("loop.pub")
    (folder / "loop").symlink_to("loop")
    (folder / "rsa.pub").write_text("ssh-rsa AAAAB3NzaC1yc2E me\n", "ascii")
    (folder / "rsa").touch()
    (folder / os.fsdecode(b"\xff\xfe.pub")).touch()
    (folder / os.fsdecode(b"\xff\xfe")).touch()
    assert desk.find(root([ADA])).keyid == keyid(ADA)


def test_missing_folder_is_said(desk: Desk) -> None:
    with refused("key_missing") as refusal:
        desk.find(root([ADA]))
    assert str(desk.home / ".ssh") in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("who", ["eve", "cp14"])
def test_only_an_enrolled_human_is_looked_for(desk: Desk, who: str) -> None:
    desk.plug(held(BEN))
    with refused("unknown_principal" if who == "eve" else "not_a_human"):
        desk.find(root([ADA], cp14=("agent", BEN)), who=who)
    assert desk.said == []


def test_silent_agent_is_passed_over_and_named(desk: Desk) -> None:
    def exchange(_: bytes) -> bytes:
        raise Unavailable("agent_silent", "the ssh-agent gave no answer")

    desk.agent = SshAgent(exchange)
    desk.put("id_ed25519", ADA)
    assert desk.find(root([ADA])).keyid == keyid(ADA)
    assert desk.said[0] == "note: the ssh-agent is passed over: the ssh-agent gave no answer"
    with refused("key_missing") as refusal:
        desk.find(root([BEN]), who="ada")
    assert "does not answer" in refusal.value.message


def test_locked_agent_is_named_when_nothing_is_found(desk: Desk) -> None:
    desk.plug()
    with refused("key_missing") as refusal:
        desk.find(root([ADA]))
    assert "the ssh-agent (empty, or locked)" in refusal.value.message


def test_key_file_that_is_there_and_cannot_be_opened_is_not_said_to_be_missing(desk: Desk) -> None:
    # As one that lies in another account's directory.
    kept = desk.home / "kept"
    kept.symlink_to(kept)
    with refused("key_missing") as refusal:
        desk.find(root([ADA]), kept=kept)
    assert f"{kept} (cannot be opened)" in refusal.value.message


def test_agent_that_refuses_is_not_replaced_by_a_file(desk: Desk) -> None:
    desk.plug(Held(plain_blob(b"\x01" * 32), lambda _: None))
    signer = desk.find(root([ADA]), kept=desk.put("id_ed25519", ADA))
    with refused("agent_refused"):
        signer.sign(PAE, NAMESPACE)
    assert len(desk.said) == 1


def test_named_private_file_is_taken_though_the_agent_holds_a_key(desk: Desk) -> None:
    desk.plug(held(ADA_TOO))
    assert desk.find(root([ADA, ADA_TOO]), named=desk.put("mine", ADA)).keyid == keyid(ADA)


def test_named_public_file_chooses_the_agents_key(desk: Desk) -> None:
    desk.plug(held(ADA), held(ADA_TOO))
    path = desk.put("mine", ADA_TOO, b"right")
    signer = desk.find(root([ADA, ADA_TOO]), named=path.with_name("mine.pub"))
    assert isinstance(signer, AgentSigner)
    assert signer.keyid == keyid(ADA_TOO)
    assert desk.asked == []


def test_named_public_file_falls_to_the_private_one_beside_it(desk: Desk) -> None:
    desk.plug(held(ADA))
    path = desk.put("mine", ADA_TOO, b"right")
    assert desk.find(root([ADA, ADA_TOO]), named=path.with_name("mine.pub")).keyid == keyid(ADA_TOO)
    assert desk.asked == [path]


def test_named_public_file_without_its_private_half_says_where_it_looked(desk: Desk) -> None:
    path = desk.put("mine", ADA)
    path.unlink()
    with refused("key_missing") as refusal:
        desk.find(root([ADA]), named=path.with_name("mine.pub"))
    assert f"nor at {path}" in refusal.value.message


@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_named_key_of_another_is_refused_unopened(desk: Desk, suffix: str) -> None:
    path = desk.put("mine", BEN, b"right")
    desk.plug(held(BEN), held(ADA))
    with refused("key_not_enrolled") as refusal:
        desk.find(root([ADA], [BEN]), named=path.with_name(f"mine{suffix}"))
    assert "enrolled for ben, not for ada" in refusal.value.message
    assert desk.asked == []


@pytest.mark.parametrize("text", ["", "ssh-rsa AAAA", "not a key"])
def test_named_public_file_that_is_none_is_refused(desk: Desk, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.pub").write_text(text, "ascii")
    with refused("bad_key_file"):
        desk.find(root([ADA]), named=tmp_path / "x.pub")


def test_token_in_the_agent_is_told_to_be_touched(desk: Desk) -> None:
    desk.plug(held_token(TOKEN, flags=5))
    signer = desk.find(root([(TOKEN.blob, True)]))
    assert desk.said[0].endswith(
        "from the ssh-agent (my token); the trust root asks its token to verify you (PIN or fingerprint)"
    )
    signer.sign(PAE, NAMESPACE)
    assert desk.said[1:] == ["touch your token when it blinks and verify yourself to it"]


def test_verification_is_asked_where_either_root_asks_for_it(desk: Desk) -> None:
    desk.plug(held_token(TOKEN))
    for roots in (
        (root([(TOKEN.blob, True)]), root([TOKEN.blob])),
        (root([TOKEN.blob]), root([(TOKEN.blob, True)])),
    ):
        with refused("user_unverified"):
            desk.find(*roots).sign(PAE, NAMESPACE)
    desk.find(root([TOKEN.blob])).sign(PAE, NAMESPACE)


def test_token_file_is_signed_by_ssh_keygen(desk: Desk, tmp_path: Path) -> None:
    path = token_file(desk)
    blob = TOKEN.sign(NAMESPACE, PAE)
    (tmp_path / "answer").write_text(sshsig.format_armor(blob), "ascii")
    body = f"signature.write_bytes(Path({str(tmp_path / 'answer')!r}).read_bytes())\nprint(args)"
    desk.variables = {"PATH": fake_keygen(tmp_path / "bin", body), "SSH_AUTH_SOCK": ""}
    signer = desk.find(root([TOKEN.blob]))
    assert signer.sign(PAE, NAMESPACE) == blob
    assert desk.said == [f"key {signer.keyid} from {path}, signed by ssh-keygen", "touch your token when it blinks"]


def token_file(desk: Desk) -> Path:
    folder = desk.home / ".ssh"
    folder.mkdir()
    path = folder / "id_ed25519_sk"
    path.write_text(TOKEN.key_file(), "ascii")
    path.chmod(0o600)
    return path


WRONG_KEYGENS: dict[str, tuple[str, str]] = {
    "fails": ("sys.exit(255)", "keygen_failed"),
    "writes nothing": ("", "keygen_failed"),
    "writes garbage": ("signature.write_text('x')", "bad_format"),
    "writes too much": ("signature.write_text('x' * 1_000_000)", "too_large"),
}


@pytest.mark.parametrize("name", list(WRONG_KEYGENS))
def test_ssh_keygen_that_does_not_sign_is_refused(desk: Desk, tmp_path: Path, name: str) -> None:
    body, code = WRONG_KEYGENS[name]
    token_file(desk)
    desk.variables = {"PATH": fake_keygen(tmp_path / "bin", body)}
    with refused(code):
        desk.find(root([TOKEN.blob])).sign(PAE, NAMESPACE)


WRONG_TOKENS: dict[str, tuple[Callable[[], bytes], str]] = {
    "no touch": (lambda: TOKEN.sign(NAMESPACE, PAE, flags=0), "user_absent"),
    "another namespace": (lambda: TOKEN.sign("git", PAE), "wrong_namespace"),
    "another message": (lambda: TOKEN.sign(NAMESPACE, PAE + b"x"), "bad_signature"),
    "another key": (lambda: token_of(0x33).sign(NAMESPACE, PAE), "wrong_key"),
    "plain key": (lambda: sshsig.sign(ADA, NAMESPACE, PAE), "wrong_key"),
}


@pytest.mark.parametrize("name", list(WRONG_TOKENS))
def test_wrong_signature_of_ssh_keygen_is_refused(desk: Desk, tmp_path: Path, name: str) -> None:
    make, code = WRONG_TOKENS[name]
    token_file(desk)
    (tmp_path / "answer").write_text(sshsig.format_armor(make()), "ascii")
    body = f"signature.write_bytes(Path({str(tmp_path / 'answer')!r}).read_bytes())"
    desk.variables = {"PATH": fake_keygen(tmp_path / "bin", body)}
    with refused(code) as refusal:
        desk.find(root([TOKEN.blob])).sign(PAE, NAMESPACE)
    assert "nothing was recorded" in refusal.value.hint


def test_missing_ssh_keygen_is_said(desk: Desk, tmp_path: Path) -> None:
    token_file(desk)
    desk.variables = {"PATH": str(tmp_path)}
    with refused("keygen_missing"):
        desk.find(root([TOKEN.blob])).sign(PAE, NAMESPACE)


def test_ssh_keygen_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr("keys.keygen_signer._GRACE_S", 60.0)
    environment = {"PATH": fake_keygen(tmp_path / "bin", "time.sleep(60)")}
    key = PersonKey("ada", parse_blob(TOKEN.blob), False)
    with refused("keygen_silent"):
        KeygenSigner(key, tmp_path / "key", environment, seconds=0.5).sign(PAE, NAMESPACE)
    (keygen,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(keygen.pid, 0)
    assert keygen.returncode == -signal.SIGTERM


def test_ssh_keygen_does_not_see_the_agent(desk: Desk, tmp_path: Path) -> None:
    token_file(desk)
    body = f"Path({str(tmp_path / 'seen')!r}).write_text(os.environ.get('SSH_AUTH_SOCK', 'none'))\nsys.exit(1)"
    desk.plug()
    desk.variables = {"PATH": fake_keygen(tmp_path / "bin", body)}
    with refused("keygen_failed"):
        desk.find(root([TOKEN.blob])).sign(PAE, NAMESPACE)
    assert (tmp_path / "seen").read_text() == "none"


@pytest.mark.parametrize("options", [["-Z", "chacha20-poly1305@openssh.com"], ["-Z", "aes128-ctr"]])
def test_file_with_another_cipher_is_signed_by_the_real_ssh_keygen(
    desk: Desk, tmp_path: Path, options: list[str]
) -> None:
    path = desk.put("id_ed25519", ADA)
    keygen = require_program("ssh-keygen")
    subprocess.run([keygen, "-q", "-p", "-f", path, "-N", "right", *options], check=True, timeout=60)
    answer = tmp_path / "askpass"
    answer.write_text("#!/bin/sh\necho right\n", "ascii")
    answer.chmod(0o700)
    desk.variables = {**os.environ, "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
    assert desk.find(root([ADA])).sign(PAE, NAMESPACE) == sshsig.sign(ADA, NAMESPACE, PAE)
    assert desk.asked == []


def test_settings_say_who_sits_here(desk: Desk) -> None:
    desk.plug(held(BEN))
    assert desk.me(root([ADA], [BEN]), me="ada", kept=("ben",)) == "ada"


def test_settings_that_name_a_stranger_or_a_machine_are_refused(desk: Desk) -> None:
    for me in ("eve", "cp14"):
        with refused("who_are_you") as refusal:
            desk.me(root([ADA], cp14=("agent", BEN)), me=me)
        assert "ada" in refusal.value.hint


@pytest.mark.parametrize("where", ["agent", "folder", "home"])
def test_only_human_with_a_key_here_is_meant(desk: Desk, where: str) -> None:
    if where == "agent":
        desk.plug(held(STRANGER), held(BEN))
    elif where == "folder":
        desk.put("id_ed25519", BEN, b"right")
        desk.put("other", STRANGER)
    found = desk.me(root([ADA], [BEN], cp14=("agent", STRANGER)), kept=("ben",) if where == "home" else ())
    assert found == "ben"
    assert desk.asked == []


def test_two_humans_with_keys_here_are_both_named(desk: Desk) -> None:
    desk.plug(held(ADA))
    desk.put("id_ed25519", BEN)
    with refused("who_are_you") as refusal:
        desk.me(root([ADA], [BEN]))
    assert "ada and ben" in refusal.value.message
    assert "--as" in refusal.value.hint


def test_colleagues_public_key_alone_does_not_make_one_that_colleague(desk: Desk) -> None:
    desk.put("ben", BEN).unlink()
    with refused("who_are_you"):
        desk.me(root([ADA], [BEN]))


@pytest.mark.parametrize("suffix", ["", ".pub"])
def test_named_key_says_who_sits_here_where_the_settings_do_not(desk: Desk, suffix: str) -> None:
    path = desk.put("mine", BEN, b"right")
    named = path.with_name(f"mine{suffix}")
    desk.plug(held(ADA))
    assert desk.me(root([ADA], [BEN]), named=named) == "ben"
    assert desk.me(root([ADA], [BEN]), me="ada", named=named) == "ada"
    with refused("who_are_you") as refusal:
        desk.me(root([ADA]), named=named)
    assert str(named) in refusal.value.message
    assert desk.asked == []


def test_human_of_a_proposed_root_is_known_by_the_key(desk: Desk) -> None:
    desk.plug(held(BEN))
    assert desk.me(root([ADA]), root([ADA], [BEN])) == "ben"
    with refused("who_are_you"):
        desk.me(root([ADA]))


def test_agent_is_asked_for_its_keys_once(desk: Desk) -> None:
    asked: list[bytes] = []
    respond = answering(held(ADA))

    def exchange(request: bytes) -> bytes:
        asked.append(request)
        return (respond(request) or b"")[4:]

    desk.agent = SshAgent(exchange)
    around = desk.around()
    me = find_me([root([ADA])], None, lambda _: None, around).id
    find_signer([root([ADA])], me, None, None, around)
    assert asked == [b"\x0b"]


def test_hint_names_some_of_many_humans(desk: Desk) -> None:
    many: Any = {f"p{number:02}": ("human", PrivateKey(bytes([100 + number]) * 32)) for number in range(30)}
    with refused("who_are_you") as refusal:
        desk.me(root([ADA], **many))
    assert refusal.value.hint.endswith("p07, p08 and 21 more")
