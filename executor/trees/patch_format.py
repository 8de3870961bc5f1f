"""Git patches: which paths a patch names, and what it may hold, read before git sees it.

Only patches with `diff --git` headers are taken. Hunks are skipped by the line counts in their headers, so content that
looks like a header is not taken for one. What `git apply --numstat` reports must be the same paths in the same order;
a patch that git and this parser read differently is refused.

Source: git-diff(1), "Generating patch text with -p"; git's own apply.c is what the count rules follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from executor.trees.patch_delta import DELTA_LINES, delta_result
from executor.trees.tree import check_path, shown
from keys.errors import CalyxError
from keys.words import counted

MAX_PATCH: Final = 64 * 1024 * 1024
"""Bytes of a patch."""
MAX_CONTENT: Final = 1024 * 1024 * 1024
"""Bytes that a patch's binary parts may announce or lead to, together, and that it may add to a tree."""
_MODES: Final = frozenset({b"100644", b"100755", b"120000"})
_HUNK: Final = re.compile(rb"@@ -[0-9]{1,9}(?:,([0-9]{1,9}))? \+[0-9]{1,9}(?:,([0-9]{1,9}))? @@")
_BINARY: Final = re.compile(rb"(?:literal|delta) ([0-9]{1,12})")
_MODE: Final = re.compile(rb"(?:old mode|new mode|deleted file mode|new file mode) (.*)")
_MAIL: Final = re.compile(rb"From [0-9a-f]{40,64} ")
"""How each commit begins that `git format-patch --stdout` writes."""
_INDEX_MODE: Final = re.compile(rb"index [0-9a-f]+\.\.[0-9a-f]+ (.*)")
_NAMES: Final = (b"rename from ", b"rename to ", b"copy from ", b"copy to ")
_ESCAPES: Final = {
    b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r", b'"': b'"', b"\\": b"\\"
}  # fmt: skip
_QUOTED: Final = re.compile(rb'"((?:[^"\\\n]|\\[abtnvfr"\\]|\\[0-3][0-7]{2})*)"')
_ESCAPE: Final = re.compile(rb'\\([abtnvfr"\\]|[0-3][0-7]{2})')


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a patch. `old`, `new`: its path before and after, None where there is no such file. At most one of
    the two is None. `size`: bytes of the file after, where a binary part says it; else it has those of `old` and at
    most `added` more. `moved`: nothing stays at `old`.
    """

    old: str | None
    new: str | None
    size: int | None = field(default=None, compare=False)
    added: int = field(default=0, compare=False)
    moved: bool = field(default=False, compare=False)

    @property
    def reported(self) -> str:
        """The path under which `git apply --numstat` lists the change."""
        return self.new or self.old or ""


@dataclass(frozen=True, slots=True)
class Part:
    """One change of a tree: its bytes, and the files that they name."""

    data: bytes
    changes: tuple[FileChange, ...]


def parse_patch(data: bytes) -> tuple[FileChange, ...]:
    """The files that a patch changes, in its order; each path is one that a tree may hold.

    Raises: CalyxError (`too_large`, `bad_patch`, `path_escapes`).
    """
    if len(data) > MAX_PATCH:
        raise CalyxError("too_large", f"a patch of {counted(len(data), 'byte')} is over 64 MiB", limit=MAX_PATCH)
    return tuple(change for part in _Reader(data.split(b"\n")).parts() for change in part.changes)


def split_patch(data: bytes) -> tuple[Part, ...]:
    """The patch as parts that are to be applied one after the other: one for each commit that it carries as a mail.

    `git apply` takes everything as one change, and applies several commits that touch one file silently wrong.

    Raises: as `parse_patch`; CalyxError (`bad_patch`) when a part changes a file twice.
    """
    if len(data) > MAX_PATCH:
        raise CalyxError("too_large", f"a patch of {counted(len(data), 'byte')} is over 64 MiB", limit=MAX_PATCH)
    parts = _Reader(data.split(b"\n")).parts()
    for part in parts:
        _check_single(part.changes)
    return parts


class _Reader:
    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._at = 0
        self._announced = 0
        self._size: int | None = None
        self._added = 0

    def parts(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        found: list[FileChange] = []
        begin = 0
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if found and _MAIL.match(line):
                parts.append(Part(b"\n".join([*self._lines[begin : self._at], b""]), tuple(found)))
                begin, found = self._at, []
            self._at += 1
            if line.startswith(b"diff --git "):
                found.append(self._file(line.removeprefix(b"diff --git ")))
            elif line.startswith((b"diff --cc ", b"diff --combined ")):
                raise _bad("is a merge's combined diff")
        if found:
            parts.append(Part(b"\n".join(self._lines[begin:]), tuple(found)))
        if not parts:
            raise _bad("holds no `diff --git` header", hint="make it with `git diff --binary` or `git format-patch`")
        return tuple(parts)

    def _file(self, names: bytes) -> FileChange:
        old: bytes | None
        new: bytes | None
        old = new = None
        created = deleted = moved = False
        prefixes: list[bytes] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith((b"diff --git ", b"@@ ", b"GIT binary patch", b"Binary files ")) or not line:
                break
            self._at += 1
            self._check_mode(line)
            created |= line.startswith(b"new file mode ")
            deleted |= line.startswith(b"deleted file mode ")
            if line.startswith(_NAMES):
                path = _name(line.split(b" ", 2)[2])
                old, new = (path, new) if line.split(b" ")[1] == b"from" else (old, path)
                moved |= line.startswith(b"rename ")
            elif line.startswith((b"--- ", b"+++ ")):
                prefix, stripped = _strip(line[4:])
                prefixes.append(prefix)
                if line.startswith(b"--- "):
                    old = stripped or old
                else:
                    new = stripped or new
                    break
        _check_prefixes(names, prefixes, b"a/" if deleted else b"b/" if created else b"")
        self._size, self._added = None, 0
        self._content()
        if old is None and new is None:
            old = new = _same(names)
        change = FileChange(
            None if created else _path(old or new),
            None if deleted else _path(new or old),
            self._size,
            self._added,
            moved,
        )
        if change.old is None and change.new is None:
            raise _bad("makes and removes a file at once")
        return change

    def _content(self) -> None:
        while self._at < len(self._lines):
            line = self._lines[self._at]
            hunk = _HUNK.match(line)
            if hunk:
                self._at += 1
                self._hunk(*(1 if count is None else int(count) for count in hunk.groups()))
            elif line.startswith(b"GIT binary patch"):
                self._at += 1
                self._binary()
            elif line.startswith(b"\\ "):
                self._at += 1
            else:
                return

    def _hunk(self, old: int, new: int) -> None:
        while old > 0 or new > 0:
            if self._at >= len(self._lines):
                raise _bad("ends within a hunk")
            first = self._lines[self._at][:1]
            self._added += len(self._lines[self._at]) if first == b"+" else 0
            self._at += 1
            old -= first in (b" ", b"", b"-")
            new -= first in (b" ", b"", b"+")
            if first not in (b" ", b"", b"-", b"+", b"\\") or old < 0 or new < 0:
                raise _bad("has a hunk whose lines are not as many as its header says")

    def _binary(self) -> None:
        begin = self._at
        while self._at < len(self._lines) and not self._lines[self._at].startswith(b"diff --git "):
            line = self._lines[self._at]
            self._at += 1
            size = _BINARY.fullmatch(line)
            if size is None:
                # git reads a number out of whatever follows these words.
                if self._at == begin + 1 or line.startswith((b"literal ", b"delta ")):
                    raise _bad("has a binary part without its size")
                continue
            result = int(size[1])
            self._announced += result
            if line.startswith(b"delta "):
                # The size of a delta says nothing of the file that it makes.
                result = delta_result(self._lines[self._at : self._at + DELTA_LINES])
                self._announced += result
            if self._announced > MAX_CONTENT:
                raise CalyxError("too_large", "a patch's binary parts are over 1 GiB", limit=MAX_CONTENT)
            # The first part leads forward, the second back.
            self._size = result if self._size is None else self._size

    def _check_mode(self, line: bytes) -> None:
        mode = _MODE.fullmatch(line) or _INDEX_MODE.fullmatch(line)
        if mode and mode[1] not in _MODES:
            raise _bad("has a file mode other than 100644, 100755 and 120000")


def _check_single(changes: Sequence[FileChange]) -> None:
    """Prove that no file is changed twice. Raises: CalyxError `bad_patch`."""
    made: set[str] = set()
    used: set[str] = set()
    for change in changes:
        # A file that becomes a link is removed, and then made.
        uses = change.old if change.new is None or change.moved or change.old == change.new else None
        for path, before in ((change.new, made), (uses, used)):
            if path is None:
                continue
            if path in before:
                raise _bad(
                    f"changes {shown(path)[:200]} twice",
                    hint="make one change of it, or use `git format-patch --stdout`",
                )
            before.add(path)


def _name(text: bytes) -> bytes:
    if not text.startswith(b'"'):
        return text
    quoted = _QUOTED.fullmatch(text)
    if not quoted:
        raise _bad("has a quoted name that does not end")
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1]) or bytes([int(match[1], 8)]), quoted[1])


def _strip(text: bytes) -> tuple[bytes, bytes | None]:
    """The first directory of a `---` or `+++` line's path, and what follows it; None for /dev/null."""
    # git puts a tab behind a name that holds a space; a tab within a name is always quoted.
    name = _name(text.split(b"\t")[0])
    if name == b"/dev/null":
        return b"", None
    first, slash, rest = name.partition(b"/")
    if not slash or not first:
        raise _escapes(name)
    return first, rest


def _check_prefixes(names: bytes, prefixes: Sequence[bytes], alone: bytes) -> None:
    """Refuse a patch with paths as they are: the first directory of each, which is cut off, would be one of the tree.

    `prefixes`: of its `---` and `+++` lines. `alone`: the prefix that both names of its header may have.
    """
    one, two = _halves(names)
    twice = bool(one) and one == two and not (alone and one.lstrip(b'"').startswith(alone))
    if twice or (len(prefixes) == 2 and prefixes[0] == prefixes[1]):
        raise _bad("has paths without `a/` and `b/` before them", hint="make it without --no-prefix and diff.noprefix")


def _halves(names: bytes) -> tuple[bytes, bytes]:
    """The two names of a `diff --git` line, where they are of one length."""
    if names.startswith(b'"'):
        quoted = _QUOTED.match(names)
        return (quoted[0], names[quoted.end() + 1 :]) if quoted else (b"", b"")
    return names[: len(names) // 2], names[len(names) // 2 + 1 :]


def _same(names: bytes) -> bytes:
    """The path in a `diff --git` line that names the same one twice, as it does where no other line names it."""
    one, two = _halves(names)
    old, new = (_strip(half)[1] if half else None for half in (one, two))
    if old is None or old != new:
        raise _bad("has a header whose two names differ and nothing that says which is meant")
    return old


def _path(name: bytes | None) -> str:
    path = (name or b"").decode("utf-8", "surrogateescape")
    try:
        check_path(path)
    except CalyxError:
        raise _escapes(name or b"") from None
    if any(segment.lower() == ".git" for segment in path.split("/")):
        raise _escapes(name or b"")
    return path


def _bad(why: str, hint: str = "") -> CalyxError:
    return CalyxError("bad_patch", f"the patch {why}", hint=hint)


def _escapes(name: bytes) -> CalyxError:
    text = shown(name.decode("utf-8", "surrogateescape"))[:200]
    return CalyxError("path_escapes", f"the patch names {text!r}, which is no path of a tree", path=text)
