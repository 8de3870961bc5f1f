"""The cosigners of `calyx lease show --json` verify with others' code, from nothing but what is shown."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from authenticator import Token
from governing import principal, propose_trust
from jsonschema import Draft202012Validator
from programs import require_program
from station import Station, new_station

from executor.views.lease_view import read_schema, view_lease
from keys import ed25519
from keys.canonical import parse_json
from keys.errors import SignatureRefused
from keys.openssh import OpenSshKey, fingerprint, format_public, parse_public
from keys.sshsig import NAMESPACE_APPROVAL, format_armor
from ledger.envelope import pae
from policies.submitter import Draft


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return new_station(tmp_path)


def shown(station: Station, lease: tuple[str, str]) -> Any:
    """What the command prints, through JSON."""
    state = station.state
    view = view_lease(state, state.leases[lease[1]], station.store, station.clock.now)
    return json.loads(json.dumps(view))


def approved(station: Station) -> tuple[str, str]:
    lease = station.propose()
    station.approve(lease)
    return lease


def verify_with_ssh_keygen(folder: Path, cosigner: Any) -> int:
    """What the real ssh-keygen says to a person's cosignature."""
    (folder / "allowed").write_text(f'{cosigner["id"]} namespaces="{NAMESPACE_APPROVAL}" {cosigner["key"]}\n')
    (folder / "sig").write_text(format_armor(base64.b64decode(cosigner["sig"])))
    done = subprocess.run(
        [
            require_program("ssh-keygen"),
            *("-Y", "verify", "-f", str(folder / "allowed"), "-I", cosigner["id"]),
            *("-n", NAMESPACE_APPROVAL, "-s", str(folder / "sig")),
        ],
        input=pae(base64.b64decode(cosigner["payload"])),
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode


def test_person_s_sig_verifies_with_ssh_keygen_over_the_payload_shown(station: Station, tmp_path: Path) -> None:
    lease = approved(station)
    cosigner = shown(station, lease)["cosigners"][0]
    assert (cosigner["id"], cosigner["kind"], cosigner["scheme"]) == ("ada", "human", "sshsig")
    assert verify_with_ssh_keygen(tmp_path, cosigner) == 0
    statement: Any = parse_json(base64.b64decode(cosigner["payload"]))
    assert statement["subject"] == [{"digest": {"sha256": lease[1]}, "name": lease[0]}]
    assert statement["predicate"]["role"] == cosigner["role"]
    cosigner["payload"] = shown(station, lease)["cosigners"][1]["payload"]
    assert verify_with_ssh_keygen(tmp_path, cosigner) != 0


def test_agent_s_sig_verifies_over_the_payload_shown(station: Station) -> None:
    human, agent = shown(station, approved(station))["cosigners"]
    assert (agent["id"], agent["kind"], agent["scheme"]) == ("cp14", "agent", "ed25519")
    key = parse_public(agent["key"])
    sig = base64.b64decode(agent["sig"])
    ed25519.verify(key.raw, pae(base64.b64decode(agent["payload"])), sig)
    with pytest.raises(SignatureRefused):
        ed25519.verify(key.raw, pae(base64.b64decode(human["payload"])), sig)


@dataclass
class TokenSigner:
    """A person at a token."""

    principal: str
    token: Token

    @property
    def keyid(self) -> str:
        return fingerprint(OpenSshKey(self.token.blob))

    def sign(self, pae: bytes, namespace: str) -> bytes:
        return self.token.sign(namespace, pae)


def test_token_s_sig_verifies_with_ssh_keygen_too(station: Station, tmp_path: Path) -> None:
    signer = TokenSigner("ada", Token())
    root = station.trust()
    line = {"key": format_public(OpenSshKey(signer.token.blob)), "user_verification": False}
    principal(root, "ada")["keys"].append(line)
    proposal = propose_trust(station, root, who="ben")
    station.vote("ben", ("trust", proposal.digest), "governor")
    assert station.state.trust_digest == proposal.digest
    lease = station.propose()
    draft = Draft("cosignature", {"role": "approver", "review": None}, lease)
    station.append(station.sign("ada", draft, signer=signer))
    view = shown(station, lease)
    assert Draft202012Validator(json.loads(read_schema())).is_valid(view)
    (cosigner,) = view["cosigners"]
    assert cosigner["key"].startswith("sk-ssh-ed25519@openssh.com ")
    assert cosigner["keyid"] == signer.keyid
    assert verify_with_ssh_keygen(tmp_path, cosigner) == 0
