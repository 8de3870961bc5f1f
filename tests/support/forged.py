"""Entries whose signature proves nothing, put into a station's ledger past the registrar; each gives its seq."""

from __future__ import annotations

from station import Station

from keys.ed25519 import SigningKey
from ledger.envelope import Envelope
from policies.submitter import Draft

MESSAGE = Draft("message", {"type": "question", "to": None, "reply_to": None, "text": "Who is there?"})


def forged_signature(station: Station) -> int:
    """Signed by a key that nobody holds."""
    said = station.sign("cbo", MESSAGE)
    return station.force(Envelope(said.body, said.keyid, SigningKey(b"\x07" * 32).sign(said.body)))


def signature_of_another_statement(station: Station) -> int:
    """Signed, but not this."""
    first, second = station.sign("cbo", MESSAGE), station.sign("cbo", MESSAGE)
    return station.force(Envelope(second.body, second.keyid, first.sig))
