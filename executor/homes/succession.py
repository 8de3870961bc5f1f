"""A ledger that continues another: reading the old one, and keeping the line from ledger to ledger for the hosts.

    lineage/<leaf of record 0>      record 0 of an earlier ledger, as it was

A genesis names the ledger before it by the leaf of its record 0. That record names the one before in turn, so the whole
line is proved by hashes alone, from the present genesis back, as far as the files are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from executor.homes.founding import Before
from executor.hosts.host import MAX_LINEAGE
from keys.errors import CalyxError, Refused, Unavailable, UsageError
from keys.openssh_public import OpenSshKey, fingerprint
from keys.principals import Principal
from keys.regular import read_regular
from keys.values import fold_id
from keys.words import counted
from ledger.chain import leaf_of
from ledger.durable import make_directory, replace_file
from ledger.objects import DirectoryObjects
from ledger.reader import open_reader
from ledger.record import MAX_RECORD, parse_record
from ledger.remembered import Remembered
from ledger.statement import HeadRef, parse_statement
from policies.fold.state import State
from policies.kinds import Continues, Genesis
from policies.law.position import parse_predicate
from policies.lawful import Beginning, read_lawful

LEDGER: Final = "ledger.db"
LINEAGE: Final = "lineage"


@dataclass(frozen=True, slots=True)
class Old:
    """The ledger that is to be continued. `home`: its directory. `ledger`: its file. `lineage`: records 0 of it and the
    ledgers before it, the newest first.
    """

    home: Path
    ledger: Path
    beginning: Beginning
    lineage: tuple[bytes, ...]

    @property
    def state(self) -> State:
        """The state at the end of what is lawful."""
        return self.beginning.state

    def find_principal(self, key: OpenSshKey) -> Principal | None:
        """Who holds a key in its last trust root."""
        holder = None if self.state.trust is None else self.state.trust.find_key(fingerprint(key))
        return None if holder is None else holder.principal


def read_old(place: Path) -> Old:
    """Read a ledger that is to be continued: its home, or its file with `objects` beside it.

    Raises: UsageError (`no_old_ledger`); Refused (`nothing_lawful`); Unavailable; CalyxError of an object that is
    needed.
    """
    ledger = place / LEDGER if place.is_dir() else place
    if not ledger.is_file():
        raise UsageError("no_old_ledger", f"there is no ledger at {ledger}", hint="name its home, or its ledger.db")
    home = ledger.parent
    try:
        with open_reader(ledger) as reader:
            beginning = read_lawful(reader, DirectoryObjects(home / "objects"))
    except CalyxError as error:
        if not error.code.startswith("object_"):
            raise
        raise Unavailable(
            error.code, error.message, hint="give the whole old home: its objects say where its lawful part ends"
        ) from None
    if not beginning.head.size:
        why = "" if beginning.ended is None else f": {beginning.ended.message}"
        raise Refused("nothing_lawful", f"{ledger} does not begin with a lawful genesis{why}")
    _, earlier = trace_lineage(home, beginning.state.continues)
    return Old(home, ledger, beginning, (beginning.first, *earlier))


def contradictions(old: Old, remembered: list[Remembered | None]) -> Iterator[str]:
    """What speaks against continuing from this copy: heads that its reader verified and that it does not hold."""
    head, history = old.beginning.head, old.state.history
    for known in filter(None, remembered):
        if known.ledger != old.state.ledger:
            yield f"you knew the ledger {known.ledger} at {known.home}, and this is another one"
        elif known.size > head.size:
            mine = counted(known.size, "entry")
            yield f"you verified {mine} of it, and this copy has {head.size} lawful ones: find the newest"
        elif known.size and history.leaf(known.size - 1) != known.hash:
            yield f"you verified another history of it: entry {known.size - 1} is not the one that you saw"


def store_lineage(home: Path, records: tuple[bytes, ...]) -> None:
    """Keep records 0 of the ledgers before, durable on return. Raises: OSError."""
    make_directory(home / LINEAGE, 0o700)
    for record in records[:MAX_LINEAGE]:
        replace_file(home / LINEAGE / leaf_of(record), record, 0o600)


def trace_lineage(home: Path, continues: Continues | None) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    """The ledgers before one that says `continues`, the newest first, and those of their records 0 that are kept in
    `home`. Each name but the first is proved by the record before it; where a record is not there, or is not what it
    should be, the line ends.
    """
    names: list[str] = []
    records: list[bytes] = []
    while continues is not None and len(names) < MAX_LINEAGE:
        names.append(continues.ledger)
        record = _read_first(home / LINEAGE / continues.ledger)
        if record is None or leaf_of(record) != continues.ledger:
            break
        records.append(record)
        said = parse_predicate(parse_statement(parse_record(record).envelope.body))
        continues = said.continues if isinstance(said, Genesis) else None
    return tuple(names), tuple(records)


def _read_first(path: Path) -> bytes | None:
    try:
        return read_regular(path, MAX_RECORD)
    except OSError:
        return None


def take_over(old: Old, keep: Sequence[str], name: str) -> Before:
    """What the new ledger has from the old one. `keep`: ids of people who stay what they were. `name`: the founder.

    Raises: Refused (`unknown_principal`, `not_a_human`, `id_taken`).
    """
    trust = old.state.trust
    people: list[Principal] = []
    for wanted in keep:
        person = None if trust is None else trust.find_principal(wanted)
        if person is None:
            raise Refused("unknown_principal", f"the old ledger's trust root has no principal {wanted}")
        if person.kind != "human":
            raise Refused("not_a_human", f"{wanted} is a machine; machines get new keys", hint="leave it out")
        if fold_id(wanted) in {fold_id(name), *(fold_id(other.id) for other in people)}:
            raise Refused("id_taken", f"{wanted} is there already", hint="leave it out of --keep")
        people.append(person)
    head = old.beginning.head
    continues = Continues(ledger=old.state.ledger, head=HeadRef(size=head.size, hash=head.hash))
    compromised = () if trust is None else tuple(item.key for item in trust.compromised)
    return Before(continues, tuple(people), compromised)
