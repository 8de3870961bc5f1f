"""Headers of a tar archive from anybody: few, small, and believed where a tree needs them.

Python's tarfile reads extended headers into memory whatever size they say, keeps all that a global one says for each
member that follows, and searches them in a time that grows with the square of their size.
"""

from __future__ import annotations

import tarfile
from typing import Any, Final, Self, cast

from executor.trees.tree import shown
from keys.errors import CalyxError
from keys.words import counted

MAX_HEADER: Final = 1024 * 1024
"""Bytes of an extended header: a long name, or a list of attributes."""
MAX_HEADERS: Final = 8
"""Extended headers before one member."""
_MEANT: Final = frozenset((b"path", b"linkpath", b"size"))
"""What an extended header says of a member that a tree carries."""
_DIGITS: Final = 15
_EXTENDED: Final = frozenset(
    (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
)


class Archive(tarfile.TarFile):
    """An archive of `Member`s. `headers`: extended ones since the last member."""

    headers = 0


class Member(tarfile.TarInfo):
    """A member with few and small extended headers, of which no more is kept than what a tree carries."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member whose header this block is. Raises: CalyxError (`bad_archive`) for what is none and no end."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and any(buf):
                # The library takes it for the end of the archive, and for nothing: what it headed would be missing.
                raise bad_archive(f"has a damaged header: {shown(str(error))[:200]}") from None
            raise

    def _proc_member(self, archive: Archive) -> tarfile.TarInfo:
        if self.size < 0:
            raise bad_archive("has a member of less than no bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _sparse(self.name)
        if self.type in _EXTENDED:
            archive.headers += 1
            if self.size > MAX_HEADER:
                raise bad_archive(f"has a header of {counted(self.size, 'byte')}")
            if archive.headers > MAX_HEADERS:
                raise bad_archive(f"has more than {MAX_HEADERS} headers before one member")
        made: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # documented there for subclasses
        return made

    def _proc_pax(self, archive: Archive) -> tarfile.TarInfo:
        inner = cast("Any", archive)
        said = _read_records(inner.fileobj.read(self._block(self.size))[: self.size])  # type: ignore[attr-defined]
        if self.type == tarfile.XGLTYPE and said:
            # Some programs heed it, some do not.
            raise bad_archive("has a header that names or measures all members")
        try:
            made: tarfile.TarInfo = self.fromtarfile(archive)
        except tarfile.TarError as error:
            # The library takes the end of an archive behind a header for its end.
            raise bad_archive(f"ends or is damaged behind a header: {shown(str(error))[:200]}") from None
        made.offset = self.offset
        if b"path" in said:
            made.name = said[b"path"].decode("utf-8", "surrogateescape").rstrip("/")
        if b"linkpath" in said:
            made.linkname = said[b"linkpath"].decode("utf-8", "surrogateescape")
        if b"size" in said:
            if not (said[b"size"].isdigit() and len(said[b"size"]) <= _DIGITS):
                raise bad_archive("has a member whose size is no number")
            made.size = int(said[b"size"])
            carries = made.isreg() or made.type not in tarfile.SUPPORTED_TYPES
            inner.offset = made.offset_data + (self._block(made.size) if carries else 0)  # type: ignore[attr-defined]
        return made


def _read_records(data: bytes) -> dict[bytes, bytes]:
    """What an extended header says of a member, as far as a tree carries it.

    Source: POSIX pax(1), "pax Extended Header": its length in all, a space, KEYWORD=VALUE, a newline.

    Raises: CalyxError (`bad_archive`; `bad_file_type` for a sparse file).
    """
    said: dict[bytes, bytes] = {}
    sparse: bytes | None = None
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _DIGITS)
        length = data[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        keyword, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not (space < end <= len(data) and data[end - 1] == ord("\n") and keyword and equals):
            raise bad_archive("has a header that is no list of records")
        if keyword.startswith(b"GNU.sparse."):
            sparse = value if keyword == b"GNU.sparse.name" else sparse or b""
        elif keyword in _MEANT:
            if not value or keyword in said:
                raise bad_archive("has a header that says something twice, or nothing")
            said[keyword] = value
        at = end
    if sparse is not None:
        raise _sparse(sparse.decode("utf-8", "replace"))
    return said


def _sparse(name: str) -> CalyxError:
    return CalyxError(
        "bad_file_type", f"{shown(name)} is a sparse file", hint="make it again without", path=shown(name)
    )


def bad_archive(why: str, path: str = "") -> CalyxError:
    """The refusal of an archive, in words that follow it."""
    named = {"path": shown(path)} if path else {}
    return CalyxError("bad_archive", f"the archive {why}", hint="make it again with tar", **named)
