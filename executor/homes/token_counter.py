"""A token counts its signatures. One that counts less than in the ledger may have been copied: a warning, no refusal.

Tokens may keep one counter for all keys, or none (always 0): a number proves nothing, only going back says something.

Source: W3C Web Authentication, section 6.1.1 (signature counter considerations).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from keys.errors import CalyxError
from keys.signer import Signer
from keys.sshsig import parse_blob
from ledger.record import parse_record
from ledger.store import Reader
from policies.fold.state import State


class CountedSigner:
    """A token's signer that tells the person when the token's counter did not grow. `newest`: the last one known."""

    def __init__(self, signer: Signer, newest: Callable[[], int | None], tell: Callable[[str], None]) -> None:
        self.principal: Final = signer.principal
        self.keyid: Final = signer.keyid
        self._signer: Final = signer
        self._newest: Final = newest
        self._tell: Final = tell

    def sign(self, pae: bytes, namespace: str) -> bytes:
        """Sign an envelope's PAE."""
        blob = self._signer.sign(pae, namespace)
        counter, newest = parse_blob(blob).counter, self._newest()
        if counter is not None and newest and counter <= newest:
            self._tell(
                f"WARNING: the token of {self.keyid} counts {counter} signatures, and counted {newest} before: if you "
                "did not change it, somebody may have a copy of it"
            )
        return blob


def newest_counter(state: State, reader: Reader, keyid: str) -> int | None:
    """The counter in the newest cosignature with this key; None where there is none, or it cannot be read."""
    ballots = [lease.ballot for lease in state.leases.values()]
    ballots += [proposal.ballot for proposal in state.proposals.values()]
    seqs = [vote.seq for ballot in ballots for vote in ballot.votes if vote.signer.keyid == keyid]
    if not seqs:
        return None
    # It is a hint for a person: a ledger that cannot be read is refused elsewhere.
    with suppress(CalyxError):
        for data in reader.read(max(seqs), max(seqs) + 1):
            return parse_blob(parse_record(data).envelope.sig).counter
    return None
