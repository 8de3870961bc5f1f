"""What a station says in a whole deployment, one statement of each kind."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from station import Station, new_station

from ledger.record import parse_record
from ledger.statement import Statement, parse_statement


@cache
def told() -> tuple[Statement, ...]:
    """One statement of each kind and of each type of event, from a whole deployment."""
    with TemporaryDirectory() as directory:
        station = tell(Path(directory))
        statements = [parse_statement(parse_record(data).envelope.body) for data in station.store.read()]
        station.store.close()
    return tuple({(each.kind, str(each.predicate.get("detail"))[:30]): each for each in statements}.values())


def tell(root: Path) -> Station:
    station = new_station(root)
    lease = station.propose()
    station.begin(lease)
    station.command("ada", lease, "pause")
    station.say("ada", "message", {"type": "question", "to": "cbo", "reply_to": None, "text": "why?"})
    other = station.propose("LEASE-20260105-090001")
    station.say("ada", "objection", {"verb": "deny", "reason": "a test"}, other)
    return station
