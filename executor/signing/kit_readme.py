"""The page of a kit: what it is, what each step proves, how to do each by hand, and what none of them proves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Final

from executor.escape import escape
from keys.sshsig import NAMESPACE_APPROVAL
from ledger.checkpoint import Checkpoint
from policies.fold.state import LeaseState, State

TEMPLATE: Final = "kit_readme.txt"
_INDENT: Final = " " * 14


def write_readme(
    state: State,
    lease: LeaseState,
    checkpoint: Checkpoint,
    seqs: Sequence[int],
    trust: int,
    kit: Mapping[str, bytes],
) -> bytes:
    """README.txt of a kit, plain ASCII. `kit`: its other files, by name."""
    text = files("executor.signing").joinpath(TEMPLATE).read_text("ascii")
    filled = text.format(
        id=lease.lease.id,
        lease=lease.seq,
        digest=lease.digest,
        target=lease.lease.target,
        ledger=state.ledger,
        origin=_ascii(checkpoint.origin),
        size=checkpoint.size,
        root=checkpoint.root.hex(),
        entries=", ".join(map(str, seqs)),
        script=sha256(kit["check.sh"]).hexdigest(),
        by_hand="\n".join(_INDENT + line for line in _by_hand(lease, kit)),
        trust=trust,
    )
    return filled.encode("ascii")


def _by_hand(lease: LeaseState, kit: Mapping[str, bytes]) -> Iterator[str]:
    """The commands that verify the first signature by a person, and the first by a machine."""
    for human in (True, False):
        for vote in [vote for vote in lease.ballot.votes if (vote.signer.kind == "human") is human][:1]:
            entry = f"entry-{vote.seq}"
            if human:
                # `-r` knows no entry from which on: for a key that was revoked later, it would refuse what counts.
                revoked = "" if kit[f"{entry}.key"].strip() in kit["revoked"] else "-r revoked "
                yield f"ssh-keygen -Y verify -f allowed_signers -I {vote.signer.principal} -n {NAMESPACE_APPROVAL} \\"
                yield f"  -s {entry}.sig {revoked}< {entry}.pae"
            else:
                yield f"openssl pkeyutl -verify -pubin -inkey {entry}.pem -rawin -in {entry}.pae \\"
                yield f"  -sigfile {entry}.ed25519"


def _ascii(text: str) -> str:
    return "".join(char if char.isascii() else f"<U+{ord(char):04X}>" for char in escape(text))
