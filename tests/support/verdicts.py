"""Two verifiers' verdicts on a ledger in memory: the project's audit, and one that shares no code with it."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from forging import Forge, ForgedObjects
from reject_pack import unpack_object, unpack_records, unpack_text

from ledger.head import EMPTY_HEAD, Head
from ledger.merkle import hash_leaf
from ledger.store import Tip
from policies.auditing.audit import audit
from policies.auditing.report import Report

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts" / "second_opinion.py"
FOLDER = ROOT / "tests" / "vectors" / "reject"


def load_script() -> ModuleType:
    """The script as a module, by its path."""
    spec = importlib.util.spec_from_file_location("second_opinion", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["second_opinion"] = module
    spec.loader.exec_module(module)
    # The vectors begin alike: the same signatures are checked a thousand times.
    module.verify = lru_cache(maxsize=65_536)(module.verify)  # type: ignore[attr-defined]  # the script's
    return module


SECOND: Any = load_script()


@dataclass(frozen=True)
class Verdict:
    """What a verifier says. `code` and `entry`: of the first thing that is wrong, None where nothing is."""

    size: int
    head: str
    root: str
    code: str | None = None
    entry: int | None = None


@dataclass(frozen=True)
class Ledger:
    """A ledger in memory, right or wrong; an audit reads it like a store."""

    records: list[bytes]
    note: bytes
    objects: dict[str, bytes]

    def tip(self) -> Tip:
        return Tip(self.head(), self.note)

    def head(self) -> Head:
        return Head(len(self.records), hash_leaf(self.records[-1]).hex()) if self.records else EMPTY_HEAD

    def checkpoint(self) -> bytes:
        return self.note

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        return iter(self.records[start:stop])

    def leaf(self, seq: int) -> str:
        return hash_leaf(self.records[seq]).hex()

    def node(self, level: int, index: int) -> bytes:
        raise NotImplementedError("an audit asks for no node")


def audit_verdict(ledger: Ledger) -> Verdict:
    """What `calyx audit` finds first."""
    return reported(audit(ledger, ForgedObjects(ledger.objects), remembered=None))


def reported(report: Report) -> Verdict:
    """What a report has first."""
    whole = (report.size, report.head.hash, report.root)
    if report.ok:
        return Verdict(*whole)
    first = report.findings[0]
    refusal = re.match(r"it is not lawful \((\w+)", first.message)
    return Verdict(*whole, refusal[1] if first.code == "unlawful_entry" and refusal else first.code, first.entry)


def second_verdict(ledger: Ledger) -> Verdict:
    """What the second opinion finds first."""
    return opinion(iter(ledger.records), ledger.note, ledger.objects)


def opinion(records: Iterator[bytes], note: bytes, objects: dict[str, bytes]) -> Verdict:
    """What the second opinion finds first in records and a checkpoint, wherever they come from."""

    def find(digest: str) -> io.BytesIO | None:
        data = objects.get(digest)
        return None if data is None else io.BytesIO(data)

    leaves: list[str] = []
    wrong = SECOND.examine(records, note, SECOND.Objects(find), leaves)
    whole = (len(leaves), leaves[-1] if leaves else EMPTY_HEAD.hash, SECOND.tree_root(leaves))
    return Verdict(*whole) if wrong is None else Verdict(*whole, wrong.code, wrong.entry)


def load_stories(folder: Path = FOLDER) -> dict[str, Any]:
    """The lawful ledgers that the vectors begin with, and the statements that they point at."""
    stories: dict[str, Any] = json.loads((folder / "stories.json").read_text("ascii"))
    return stories


def story_ledger(stories: dict[str, Any], name: str) -> Ledger:
    """A lawful ledger."""
    story = stories[name]
    objects = {digest: unpack_text(value) for digest, value in story["objects"].items()}
    return Ledger([record.encode() for record in story["records"]], unpack_text(story["checkpoint"]), objects)


def vector_ledger(stories: dict[str, Any], vector: dict[str, Any]) -> Ledger:
    """The ledger of a vector."""
    story = story_ledger(stories, vector["story"])
    records = unpack_records(vector["records"], story.records[: vector["size"]], stories["bodies"])
    changed = {digest: unpack_object(value, stories["bodies"]) for digest, value in vector["objects"].items()}
    return Ledger(records, unpack_text(vector["checkpoint"]), {**story.objects, **changed})


def agree(ledger: Ledger) -> None:
    """Both find nothing wrong, and read the same."""
    ours, theirs = audit_verdict(ledger), second_verdict(ledger)
    assert ours == theirs
    assert ours == Verdict(len(ledger.records), ledger.head().hash, ours.root)


def of_forge(forge: Forge) -> Ledger:
    """A forge's ledger as it is."""
    return Ledger([record.data for record in forge.records], forge.checkpoint(), forge.objects.kept)
