"""Makes the vectors that every verifier has to refuse, one change a file.

    PYTHONPATH=.:tests/support python tests/support/reject_vectors.py

`tests/vectors/reject/stories.json` has three lawful ledgers (records, and objects by their digest). Each other file is

    {"what": in words, "story": which, "size": how many records of it come first, "records": what follows them,
     "checkpoint": the newest signed note, "objects": digest -> what is kept there besides or instead,
     "code": of the refusal, "entry": the first that is wrong, null for the ledger as a whole}

How records and objects are packed is told in `reject_pack`; "bodies" of the stories are what they point at. Whoever
changed an entry holds
every key: it is signed, chained and under a new checkpoint, and where it could, something lawful follows it. The codes
are those of docs/FORMAT.md. `broken_chain` and `bad_checkpoint` are an audit's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import reject_bakes
import reject_claimed
import reject_claims
import reject_commands
import reject_deployments
import reject_edges
import reject_events
import reject_governance
import reject_law
import reject_leases
import reject_limits
import reject_memory
import reject_neighbours
import reject_neighbours_later
import reject_objects
import reject_order
import reject_records
import reject_shapes
import reject_signatures
import reject_statements
from forging import Forge, checkpoint_of
from reject_chain import BROKEN
from reject_pack import name_of, pack_object, pack_record, pack_text
from reject_registry import FORGERIES
from reject_shapes import OBJECTS, honest_bodies
from reject_stories import STORIES

from keys.canonical import format_json

FOLDER: Final = Path(__file__).parent.parent / "vectors" / "reject"
LISTED: Final = (
    *(reject_law, reject_governance, reject_leases, reject_claims, reject_claimed),
    *(reject_deployments, reject_events, reject_bakes, reject_commands),
    *(reject_shapes, reject_limits, reject_statements, reject_signatures, reject_records, reject_objects, reject_edges),
    *(reject_order, reject_neighbours, reject_neighbours_later, reject_memory),
)
"""Where forgeries are listed when they are imported."""


def make_vectors() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every vector with its name, the stories first."""
    stories = {name: tell() for name, tell in STORIES.items()}
    bodies = {name: format_json(value).decode() for name, value in OBJECTS.items()}
    bodies |= honest_bodies(stories["small"].moments["genesis"])
    told: dict[str, Any] = {}
    for name, story in stories.items():
        for record in story.ledger.records:
            text = record.envelope.body.decode()
            bodies.setdefault(name_of(text), text)
        told[name] = {
            "records": [record.data.decode() for record in story.ledger.records],
            "objects": {digest: pack_text(data) for digest, data in story.ledger.objects.kept.items()},
            "checkpoint": pack_text(story.ledger.checkpoint()),
        }
    yield "stories", {**told, "bodies": bodies}
    for forgery in FORGERIES.values():
        story = stories[forgery.story]
        forge = story.moments[forgery.moment].fork()
        forgery.doing(forge)
        if forgery.followed:
            forge.follow()
        records = [record.data for record in forge.records]
        start = {"what": forgery.what, "story": forgery.story, "code": forgery.code, "entry": forge.forged}
        note = checkpoint_of(records)
        yield forgery.name, {**start, **_changes(story.ledger, records, note, forge.objects.kept, bodies)}
    for broken in BROKEN.values():
        story = stories["main"]
        honest = [record.data for record in story.moments[broken.moment].records]
        records, note = broken.doing(honest, checkpoint_of(honest))
        start = {"what": broken.what, "story": "main", "code": broken.code, "entry": broken.entry}
        yield broken.name, {**start, **_changes(story.ledger, records, note, story.ledger.objects.kept, bodies)}


def _changes(
    lawful: Forge, records: list[bytes], note: bytes, kept: dict[str, bytes], bodies: dict[str, str]
) -> dict[str, Any]:
    """How a ledger differs from a story's."""
    told = [record.data for record in lawful.records]
    pairs = enumerate(zip(records, told, strict=False))
    size = next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(records), len(told)))
    return {
        "size": size,
        "records": [pack_record(records[:at], data, bodies) for at, data in enumerate(records) if at >= size],
        "checkpoint": pack_text(note),
        "objects": {
            digest: pack_object(data, bodies)
            for digest, data in kept.items()
            if lawful.objects.kept.get(digest) != data
        },
    }


def spell(vector: dict[str, Any]) -> str:
    """A vector's file: a member a line, and the records a record a line."""
    lines = []
    for name, value in sorted(vector.items()):
        text = json.dumps(value, sort_keys=True)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(json.dumps(each, sort_keys=True) for each in value) + "]"
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write(folder: Path = FOLDER) -> None:
    """Write every vector, and take away what is none any more."""
    folder.mkdir(exist_ok=True)
    written = set()
    for name, vector in make_vectors():
        path = folder / f"{name}.json"
        written.add(path)
        path.write_text(spell(vector), "ascii")
    for path in set(folder.glob("*.json")) - written:
        path.unlink()


if __name__ == "__main__":
    write()
