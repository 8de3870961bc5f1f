"""Lists of names and paths: inline where they are short, an object where they would fill the record."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from hashlib import sha256
from typing import Final, Protocol

from pydantic import TypeAdapter, ValidationError

from keys.canonical import Json, format_json, parse_json
from keys.errors import FormatError
from keys.values import Ident
from ledger.objects import ObjectRef
from policies.kinds import MAX_INLINE_NAMES, ChangedPath, Names, Paths, check_paths

MAX_LIST_BYTES: Final = 16 * 1024 * 1024
MAX_INLINE_BYTES: Final = 8_192
"""Canonical bytes of lists that a writer puts inline into one field of a statement, so that the record has room."""

_IDENTS: Final[TypeAdapter[list[Ident]]] = TypeAdapter(list[Ident])
_PATHS: Final[TypeAdapter[list[ChangedPath]]] = TypeAdapter(list[ChangedPath])


class Objects(Protocol):
    """What the law reads besides entries: fleet bodies and long lists, by hash."""

    def get(self, ref: ObjectRef) -> bytes:
        """The object's bytes, verified. Raises: CalyxError (`object_missing`, `object_mismatch`)."""
        ...


class ObjectSink(Protocol):
    """Where a long list is put."""

    def put(self, data: bytes) -> ObjectRef:
        """Store bytes durably and give their reference."""
        ...


def open_names(names: Names, objects: Objects) -> tuple[str, ...]:
    """The names of a field, read from its object where it has one.

    Raises: FormatError when the list is not canonical; CalyxError of the object.
    """
    return _open(names, objects, _IDENTS)


def open_paths(paths: Paths, objects: Objects) -> tuple[str, ...]:
    """The paths of a field.

    Raises: as `open_names`; FormatError when they are not plain, sorted by their bytes and unique.
    """
    opened = _open(paths, objects, _PATHS)
    if isinstance(paths, ObjectRef):
        try:
            check_paths(opened)
        except ValueError as error:
            raise FormatError(str(error)) from None
    return opened


def store_list(items: Sequence[str], sink: ObjectSink, share: int = 1) -> tuple[str, ...] | ObjectRef:
    """The field for a list of names or paths; a long one is put into `sink`. Inverse of `open_names`, `open_paths`.

    `share`: how many lists stand beside each other and share the room for what is inline.
    """
    data = format_json(list(items))
    if len(items) <= MAX_INLINE_NAMES and len(data) <= MAX_INLINE_BYTES // share:
        return tuple(items)
    return sink.put(data)


def list_json(items: Sequence[str], sink: ObjectSink, share: int = 1) -> Json:
    """`store_list` as canonical-JSON material."""
    stored = store_list(items, sink, share)
    return list(stored) if isinstance(stored, tuple) else stored.to_json()


def same_list(field: Names, items: Sequence[str]) -> bool:
    """Whether a field stands for exactly these items, by hash where it is an object."""
    if isinstance(field, ObjectRef):
        data = format_json(list(items))
        return field.size == len(data) and field.sha256 == sha256(data).hexdigest()
    return field == tuple(items)


def _open(field: Names | Paths, objects: Objects, adapter: TypeAdapter[list[str]]) -> tuple[str, ...]:
    if not isinstance(field, ObjectRef):
        return _kept_once(field)
    if field.size > MAX_LIST_BYTES:
        raise FormatError(f"a list object is over the limit of {MAX_LIST_BYTES} bytes", code="too_large")
    try:
        items = adapter.validate_python(parse_json(objects.get(field), limit=MAX_LIST_BYTES), strict=True)
    except ValidationError:
        raise FormatError(f"object {field.sha256[:16]} is not a list of names or paths") from None
    return _kept_once(items)


def _kept_once(items: Sequence[str]) -> tuple[str, ...]:
    # The same few names stand in every lease and event of a ledger, and the fold keeps them all.
    return tuple(map(sys.intern, items))
