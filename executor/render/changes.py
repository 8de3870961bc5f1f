"""What changes between two trees or two values, as escaped lines; bounded, and what is left out is counted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from shlex import quote
from typing import Final

from executor.escape import escape, shorten
from executor.render.bounds import SHORT, Bounds
from executor.render.line_diff import Work, diff_lines
from executor.render.text import count_left
from executor.trees.tree import Directory, Entry, File, Link, changed_paths, load_tree
from keys.canonical import Json
from keys.words import are, counted
from ledger.objects import ObjectRef, ObjectStore
from policies.kinds import ABSENT

MAX_WORK: Final = 10_000_000
"""What comparing the files of two trees, or two values, may cost: seconds, where files can be made to take days."""


def describe_change(
    before: str, after: str, objects: ObjectStore, bounds: Bounds = SHORT
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The changed paths between two trees as recomputed from their manifests, and lines for a person: each path with
    what happens to it, then the difference of each text file.

    A line that comes out of a file begins with a plus, a minus or a space; no other line does.

    Raises: Unavailable (`object_missing`); CalyxError of a manifest.
    """
    old = None if before == ABSENT else load_tree(before, objects)
    new = load_tree(after, objects)
    paths = changed_paths(old, new)
    have = {entry.path: entry for entry in (old.entries if old else ())}
    get = {entry.path: entry for entry in new.entries}
    lines = [_summary(path, have, get) for path in paths[: bounds.files]]
    lines += count_left(len(paths), bounds.files, "path", bounds)
    shown = _file_diffs(paths[: bounds.files], have, get, objects, bounds)
    return paths, (*lines, *_bounded(shown, bounds.lines, bounds))


def diff_values(before: Json, after: Json, bounds: Bounds = SHORT) -> tuple[str, ...]:
    """The difference of two JSON values: a line for each single value, with the whole way to it."""
    old, new = ([] if value is None else [f"{line}\n" for line in _flatten(value, "")] for value in (before, after))
    return tuple(_bounded(_diff(old, new, bounds, Work(MAX_WORK), context=0), 2 * bounds.lines, bounds))


def _flatten(value: Json, way: str) -> Iterator[str]:
    """`way: value` for each single value. No name of a member has a slash, a bracket or a colon in it."""
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _flatten(value[key], f"{way}/{key}" if way else key)
    elif isinstance(value, list) and value:
        for item in value:
            name = next((item[key] for key in ("id", "name") if key in item), "") if isinstance(item, dict) else ""
            yield from _flatten(item, f"{way}[{name}]")
    else:
        yield f"{way}: {json.dumps(value, ensure_ascii=False)}"


def _summary(path: str, have: dict[str, Entry], get: dict[str, Entry]) -> str:
    name = path.removesuffix("/")
    old, new = have.get(name), get.get(name)
    verb = "adds" if old is None else "removes" if new is None else "changes"
    # The path is last, where nothing in it can pose as what happens to it.
    return f"{verb:<8} {_kind(old)} to {_kind(new)}: {escape(path)}"


def _kind(entry: Entry | None) -> str:
    match entry:
        case None:
            return "nothing"
        case File(_, _, size, executable):
            return f"{'executable' if executable else 'file'} of {counted(size, 'byte')}"
        case Link(_, target):
            return f"link to {escape(quote(target))}"
        case Directory():
            return "directory"


def _file_diffs(
    paths: Iterable[str], have: dict[str, Entry], get: dict[str, Entry], objects: ObjectStore, bounds: Bounds
) -> Iterator[str]:
    work = Work(MAX_WORK)
    for path in paths:
        old, new = have.get(path), get.get(path)
        if not isinstance(old, File) and not isinstance(new, File):
            continue
        yield ""
        yield f"=== {escape(path)}"
        if isinstance(old, File) and isinstance(new, File) and old.sha256 == new.sha256:
            yield "=== the same content"
            continue
        texts = _text(old, objects, bounds), _text(new, objects, bounds)
        if texts[0] is None or texts[1] is None:
            yield f"=== not text, or over {counted(bounds.text, 'byte')}: {_content(old)} to {_content(new)}"
            continue
        yield from _diff(texts[0], texts[1], bounds, work)


def _content(entry: Entry | None) -> str:
    return f"SHA-256 {entry.sha256}" if isinstance(entry, File) else "nothing"


def _text(entry: Entry | None, objects: ObjectStore, bounds: Bounds) -> list[str] | None:
    if not isinstance(entry, File):
        return []
    if entry.size > bounds.text:
        return None
    data = objects.get(ObjectRef(sha256=entry.sha256, size=entry.size))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    # Only a newline ends a line; what other characters would break it is shown as their code point.
    return None if "\0" in text else re.findall(r"[^\n]*\n|[^\n]+", text)


def _diff(old: list[str], new: list[str], bounds: Bounds, work: Work, *, context: int = 3) -> Iterator[str]:
    """The difference of lines that end in a newline, but for the last one, where that is said as git says it."""
    for line in diff_lines(old, new, work, context=context):
        yield shorten(escape(line.removesuffix("\n").expandtabs(4)), bounds.line)
        # A line of positions begins with @@; no other has no sign before it.
        if not line.startswith("@@") and not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _bounded(lines: Iterator[str], limit: int, bounds: Bounds) -> Iterator[str]:
    yield from islice(lines, limit)
    # Counting costs as much as showing, and must end too.
    left = sum(1 for _ in islice(lines, 100_000))
    if left:
        more = counted(left, "more line") if left < 100_000 else "over 100000 more lines"
        yield f"... {more} {are(left)} not shown; {bounds.more}"
