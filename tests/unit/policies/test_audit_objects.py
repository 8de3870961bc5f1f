"""What an entry that is not lawful may name, where objects are looked for all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fuzzing import bounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import KEYID
from station import Station, new_station

from keys.errors import CalyxError
from ledger.envelope import Envelope
from ledger.exports.mirror_objects import MirrorObjects
from ledger.exports.mirror_source import Allowance, DirectorySource
from ledger.exports.reader import ExportReader
from ledger.objects import DirectoryObjects
from ledger.record import make_record
from ledger.statement import make_statement
from policies.auditing.audit import audit
from policies.auditing.export import export_ledger
from policies.auditing.exported import audit_export
from policies.auditing.object_walk import walk_objects
from policies.auditing.objects import ObjectAudit

COMMON = {
    "by": "cbo",
    "head": {"hash": "ab" * 32, "size": 1},
    "ledger": "cd" * 32,
    "made_at": "2026-01-05T09:00:00Z",
    "nonce": "0" * 32,
}
STRANGE = [
    {"changes": [{"before": "../../../etc/passwd", "after": "AB" * 32}]},
    {
        "changes": [{"before": "\u00e9" * 64, "after": "x"}],
        "artifact": {"type": "directory", "sha256": "..", "size": 3},
    },
    {"changes": [1, [], {}, {"before": None, "after": 5}], "artifact": {"type": "directory", "sha256": 1, "size": "x"}},
    {"changes": "none", "artifact": {"sha256": "ab" * 32, "size": 2**53 - 1}},
]


def force(station: Station, predicate: dict[str, Any]) -> int:
    """Append a lease past the law, as whoever has the log's key can; its seq."""
    with station.store.writer(station.log_key.sign) as writer:
        body = make_statement("lease", {**COMMON, **predicate}).body
        head = writer.head
        writer.append(make_record(head.size, head.hash, station.clock.now, Envelope(body, KEYID, b"s" * 64)))
        return head.size


@pytest.mark.parametrize("predicate", STRANGE)
def test_lease_past_the_law_that_names_no_digest_is_a_finding(tmp_path: Path, predicate: dict[str, Any]) -> None:
    station = new_station(tmp_path / "station")
    seq = force(station, predicate)
    report = audit(station.store, station.objects, remembered=None)
    assert {finding.entry for finding in report.findings} == {seq}
    out = tmp_path / "out"
    export_ledger(station.store, station.objects, out, remembered=None)
    found = audit_export(ExportReader(out), DirectoryObjects(out / "objects"), remembered=None)
    assert {finding.entry for finding in found.findings} == {seq}
    mine = MirrorObjects(DirectorySource(out), tmp_path / "mine", Allowance(2**20))
    assert not audit_export(ExportReader(out), mine, remembered=None).ok
    walk_objects(station.store, DirectoryObjects(tmp_path / "station" / "objects"))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 2**53 - 1)
    | st.text(max_size=70)
    | st.just("ab" * 32)
    | st.just("absent"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["sha256", "size", "type", "before", "after", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.fixed_dictionaries({}, optional={"changes": VALUES, "artifact": VALUES, "paths": VALUES}))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_lease_is_walked_in_our_words(tmp_path: Path, predicate: dict[str, Any]) -> None:
    missing: list[CalyxError] = []
    with bounded():
        try:
            statement = make_statement("lease", {**COMMON, **predicate})
            ObjectAudit(DirectoryObjects(tmp_path / "none"), lambda seq, error: missing.append(error)).visit(
                3, statement
            )
        except CalyxError:
            return
