"""Objects of an export: fetched when an audit asks for them, kept under their hash, and never taken for another."""

from __future__ import annotations

from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final

from keys.errors import CalyxError, Unavailable
from ledger.durable import hidden_file, make_directory
from ledger.exports.export import OBJECTS
from ledger.exports.mirror_source import Allowance, Source
from ledger.objects import MAX_IN_MEMORY, DirectoryObjects, ObjectRef


class MirrorObjects:
    """What an audit needs of objects (`get`, `check`, `find`): those in the mirror at `root`, and else the source's.

    An object that the source has under a name that is not its own is named (`object_mismatch`) and not kept.
    """

    def __init__(self, source: Source, root: Path, allowance: Allowance) -> None:
        self._source = source
        self._root: Final = root / OBJECTS
        self._kept: Final = DirectoryObjects(self._root)
        self._allowance = allowance

    def get(self, ref: ObjectRef) -> bytes:
        """The object's content, verified. Raises: as `ledger.objects.ObjectStore.get`; as `Source`."""
        try:
            return self._kept.get(ref)
        except CalyxError as error:
            self._fetch(ref, error)
        return self._kept.get(ref)

    def check(self, ref: ObjectRef) -> None:
        """Prove that the object is there and whole. Raises: as `get`."""
        try:
            self._kept.check(ref)
        except CalyxError as error:
            self._fetch(ref, error)

    def find(self, digest: str) -> ObjectRef | None:
        """The reference of what is there under a SHA-256, at most 64 MiB. Raises: Unavailable (`object_unreadable`)."""
        known = self._kept.find(digest)
        if known is not None:
            return known
        try:
            data = self._source.fetch(self._path(digest), MAX_IN_MEMORY)
            if data is None:
                return None
            self._allowance.take(len(data))
        except Unavailable as error:
            raise self._unreadable(ObjectRef(sha256=digest, size=0), error.message) from None
        if sha256(data).hexdigest() == digest:
            return self._kept.put(data)
        return ObjectRef(sha256=digest, size=len(data))

    def _fetch(self, ref: ObjectRef, why: CalyxError) -> None:
        """Fetch an object that the mirror does not hold whole, and keep it if it is what it should be."""
        if why.code not in {"object_missing", "object_mismatch"}:
            raise why
        try:
            self._allowance.take(ref.size)
            make_directory(self._root)
            with hidden_file(self._root, 0o600) as (file, hidden):
                if not self._source.fetch_to(self._path(ref.sha256), file, ref.size):
                    self._allowance.give_back(ref.size)
                    raise why
                file.close()
                with hidden.open("rb") as content:
                    found = file_digest(content, "sha256").hexdigest()
                if found == ref.sha256:
                    self._kept.put_file(hidden)
                    return
        except OSError as error:
            raise self._unreadable(ref, f"cannot write {self._root}: {error.strerror}") from None
        except Unavailable as error:
            # An audit takes these codes for what they are: they say nothing against the entry that names the object.
            raise error if error is why else self._unreadable(ref, error.message) from None
        raise CalyxError(
            "object_mismatch",
            f"what is published as object {ref.sha256[:16]} is something else",
            hint="tell its publisher",
            object=ref.sha256,
        )

    @staticmethod
    def _unreadable(ref: ObjectRef, why: str) -> Unavailable:
        return Unavailable("object_unreadable", f"object {ref.sha256[:16]} cannot be had: {why}", object=ref.sha256)

    @staticmethod
    def _path(digest: str) -> str:
        return f"{OBJECTS}/{digest[:2]}/{digest[2:]}"
