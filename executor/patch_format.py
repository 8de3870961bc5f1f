"""Git patches: which paths a patch names, and what it may hold, read before git sees it.

Only patches with `diff --git` headers are taken. Hunks are skipped by the line counts in their headers, so content that
looks like a header is not taken for one. What `git apply --numstat` reports must be the same paths in the same order;
a patch that git and this parser read differently is refused.

Source: git-diff(1), "Generating patch text with -p"; git's own apply.c is what the count rules follow.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from executor.tree import check_path, shown
from keys.errors import CalyxError

MAX_PATCH: Final = 64 * 1024 * 1024
"""Bytes of a patch."""
MAX_CONTENT: Final = 1024 * 1024 * 1024
"""Bytes that a patch's binary parts may announce or lead to, together, and that it may add to a tree."""
_MODES: Final = frozenset({b"100644", b"100755", b"120000"})
_HUNK: Final = re.compile(rb"@@ -[0-9]{1,9}(?:,([0-9]{1,9}))? \+[0-9]{1,9}(?:,([0-9]{1,9}))? @@")
_BINARY: Final = re.compile(rb"(?:literal|delta) ([0-9]{1,12})")
_MODE: Final = re.compile(rb"(?:old mode|new mode|deleted file mode|new file mode) (.*)")
_INDEX_MODE: Final = re.compile(rb"index [0-9a-f]+\.\.[0-9a-f]+ (.*)")
_NAMES: Final = (b"rename from ", b"rename to ", b"copy from ", b"copy to ")
_ESCAPES: Final = {
    b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r", b'"': b'"', b"\\": b"\\"
}  # fmt: skip
_LENGTHS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_DELTA_LINES: Final = 64
"""More than enough for the first bytes of a delta: a deflate header is under 512 bytes, and a line holds up to 52."""
_DELTA_HEAD: Final = 20
_QUOTED: Final = re.compile(rb'"((?:[^"\\\n]|\\[abtnvfr"\\]|\\[0-3][0-7]{2})*)"')
_ESCAPE: Final = re.compile(rb'\\([abtnvfr"\\]|[0-3][0-7]{2})')


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a patch. `old`, `new`: its path before and after, None where there is no such file. At most one of
    the two is None. `size`: bytes of the file after, where a binary part says it; else it has those of `old` and at
    most `added` more.
    """

    old: str | None
    new: str | None
    size: int | None = field(default=None, compare=False)
    added: int = field(default=0, compare=False)

    @property
    def reported(self) -> str:
        """The path under which `git apply --numstat` lists the change."""
        return self.new or self.old or ""


def parse_patch(data: bytes) -> tuple[FileChange, ...]:
    """The files that a patch changes, in its order; each path is one that a tree may hold.

    Raises: CalyxError (`too_large`, `bad_patch`, `path_escapes`).
    """
    if len(data) > MAX_PATCH:
        raise CalyxError("too_large", f"a patch of {len(data)} bytes is over 64 MiB", limit=MAX_PATCH)
    changes = _Reader(data.split(b"\n")).changes()
    if not changes:
        raise _bad("holds no `diff --git` header", hint="make it with `git diff --binary` or `git format-patch`")
    return tuple(changes)


class _Reader:
    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines
        self._at = 0
        self._announced = 0
        self._size: int | None = None
        self._added = 0

    def changes(self) -> list[FileChange]:
        found = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if line.startswith(b"diff --git "):
                found.append(self._file(line.removeprefix(b"diff --git ")))
            elif line.startswith((b"diff --cc ", b"diff --combined ")):
                raise _bad("is a merge's combined diff")
        return found

    def _file(self, names: bytes) -> FileChange:
        old: bytes | None
        new: bytes | None
        old = new = None
        created = deleted = False
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
            elif line.startswith(b"--- "):
                old = _strip(line[4:]) or old
            elif line.startswith(b"+++ "):
                new = _strip(line[4:]) or new
                break
        self._size, self._added = None, 0
        self._content()
        if old is None and new is None:
            old = new = _same(names)
        change = FileChange(
            None if created else _path(old or new), None if deleted else _path(new or old), self._size, self._added
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
                result = _delta_result(self._lines[self._at : self._at + _DELTA_LINES])
                self._announced += result
            if self._announced > MAX_CONTENT:
                raise CalyxError("too_large", "a patch's binary parts are over 1 GiB", limit=MAX_CONTENT)
            # The first part leads forward, the second back.
            self._size = result if self._size is None else self._size

    def _check_mode(self, line: bytes) -> None:
        mode = _MODE.fullmatch(line) or _INDEX_MODE.fullmatch(line)
        if mode and mode[1] not in _MODES:
            raise _bad("has a file mode other than 100644, 100755 and 120000")


def _delta_result(lines: Sequence[bytes]) -> int:
    """The size of the file that a delta makes: the second of the two numbers that its content begins with.

    Source: gitformat-pack(5), "Deltified representation"; the lines are base85 as git-diff(1) --binary writes them.
    """
    inflate, head = zlib.decompressobj(), b""
    try:
        for line in lines:
            if not line or len(head) >= _DELTA_HEAD:
                break
            count = _LENGTHS.index(line[:1]) + 1
            head += inflate.decompress(base64.b85decode(line[1:])[:count], _DELTA_HEAD)
    except (ValueError, zlib.error):
        raise _bad("has a delta that cannot be read") from None
    at, numbers = 0, []
    for _ in range(2):
        number = shift = 0
        while True:
            if at >= len(head) or shift > 63:
                raise _bad("has a delta that cannot be read")
            number |= (head[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if head[at - 1] < 0x80:
                break
        numbers.append(number)
    return numbers[1]


def _name(text: bytes) -> bytes:
    if not text.startswith(b'"'):
        return text
    quoted = _QUOTED.fullmatch(text)
    if not quoted:
        raise _bad("has a quoted name that does not end")
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1]) or bytes([int(match[1], 8)]), quoted[1])


def _strip(text: bytes) -> bytes | None:
    """The path of a `---` or `+++` line without its first directory; None for /dev/null."""
    # git puts a tab behind a name that holds a space; a tab within a name is always quoted.
    name = _name(text.split(b"\t")[0])
    if name == b"/dev/null":
        return None
    first, slash, rest = name.partition(b"/")
    if not slash or not first:
        raise _escapes(name)
    return rest


def _same(names: bytes) -> bytes:
    """The path in a `diff --git` line that names the same one twice, as it does where no other line names it."""
    if names.startswith(b'"'):
        quoted = _QUOTED.match(names)
        halves = (quoted[0], names[quoted.end() + 1 :]) if quoted else (b"", b"")
    else:
        halves = (names[: len(names) // 2], names[len(names) // 2 + 1 :])
    old, new = _strip(halves[0]) if halves[0] else None, _strip(halves[1]) if halves[1] else None
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
