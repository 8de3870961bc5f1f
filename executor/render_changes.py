"""What changes between two trees or two values, as escaped lines; bounded, and what is left out is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from itertools import islice
from typing import Final

from executor.escape import escape, shorten
from executor.tree import Directory, Entry, File, Link, changed_paths, load_tree
from keys.canonical import Json
from ledger.objects import ObjectRef, ObjectStore
from policies.kinds import ABSENT

MAX_FILES: Final = 50
MAX_LINES: Final = 400
MAX_LINE: Final = 400
MAX_TEXT: Final = 256 * 1024
"""Bytes of a file whose difference is shown."""


def describe_change(before: str, after: str, objects: ObjectStore) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The changed paths between two trees as recomputed from their manifests, and lines for a person: each path with
    what happens to it, then the difference of each text file.

    Raises: Unavailable (`object_missing`); CalyxError of a manifest.
    """
    old = None if before == ABSENT else load_tree(before, objects)
    new = load_tree(after, objects)
    paths = changed_paths(old, new)
    have = {entry.path: entry for entry in (old.entries if old else ())}
    get = {entry.path: entry for entry in new.entries}
    lines = [_summary(path, have, get) for path in paths[:MAX_FILES]]
    if len(paths) > MAX_FILES:
        lines.append(f"and {len(paths) - MAX_FILES} more paths")
    shown = _file_diffs(paths[:MAX_FILES], have, get, objects)
    return paths, (*lines, *_bounded(shown, MAX_LINES))


def diff_values(before: Json, after: Json) -> tuple[str, ...]:
    """The difference of two JSON values, line by line."""
    old, new = (
        []
        if value is None
        else f"{json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)}\n".splitlines(keepends=True)
        for value in (before, after)
    )
    return tuple(_bounded(_diff(old, new, "in force", "proposed"), 2 * MAX_LINES))


def _summary(path: str, have: dict[str, Entry], get: dict[str, Entry]) -> str:
    name = path.removesuffix("/")
    old, new = have.get(name), get.get(name)
    verb = "adds" if old is None else "removes" if new is None else "changes"
    return f"{verb:<8} {escape(path)}  {_kind(old)} to {_kind(new)}"


def _kind(entry: Entry | None) -> str:
    match entry:
        case None:
            return "nothing"
        case File(_, _, size, executable):
            return f"{'executable' if executable else 'file'} of {size} bytes"
        case Link(_, target):
            return f"link to {escape(target)}"
        case Directory():
            return "directory"


def _file_diffs(
    paths: Iterable[str], have: dict[str, Entry], get: dict[str, Entry], objects: ObjectStore
) -> Iterator[str]:
    for path in paths:
        old, new = have.get(path), get.get(path)
        if not isinstance(old, File) and not isinstance(new, File):
            continue
        texts = _text(old, objects), _text(new, objects)
        if texts[0] is None or texts[1] is None:
            yield f"{escape(path)}: not text, or over {MAX_TEXT} bytes; not shown"
            continue
        yield ""
        yield from _diff(texts[0], texts[1], f"{path} before", f"{path} after")


def _text(entry: Entry | None, objects: ObjectStore) -> list[str] | None:
    if not isinstance(entry, File):
        return []
    if entry.size > MAX_TEXT:
        return None
    data = objects.get(ObjectRef(sha256=entry.sha256, size=entry.size))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # Only a newline ends a line; what other characters would break it is shown as their code point.
    return None if "\0" in text else re.findall(r"[^\n]*\n|[^\n]+", text)


def _diff(old: list[str], new: list[str], before: str, after: str) -> Iterator[str]:
    """The difference of lines that end in a newline, but for the last one, where that is said as git says it."""
    for number, line in enumerate(unified_diff(old, new, before, after, lineterm="")):
        yield shorten(escape(line.removesuffix("\n").expandtabs(4)), MAX_LINE)
        # The first two lines are the names, and a line of positions begins with @@; no other has no sign before it.
        if number > 1 and not line.startswith("@@") and not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _bounded(lines: Iterator[str], limit: int) -> Iterator[str]:
    yield from islice(lines, limit)
    left = sum(1 for _ in lines)
    if left:
        yield f"... {left} more lines are not shown"
