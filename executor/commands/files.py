"""Files that people hand to a command: bounded, UTF-8, and strict about what two readers could read differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from keys.canonical import Json
from keys.errors import FormatError, UsageError
from keys.regular import read_regular

if TYPE_CHECKING:
    from keys.openssh_public import OpenSshKey
    from keys.values import Model
    from policies.yaml_file import Form

M = TypeVar("M", bound="Model")

MAX_JSON: Final = 64 * 1024 * 1024
MAX_YAML: Final = 1024 * 1024


def read_bytes(path: Path, limit: int) -> bytes:
    """A regular file of at most `limit` bytes. Raises: UsageError (`file_unreadable`); FormatError (`too_large`)."""
    try:
        data = read_regular(path, limit)
    except OSError as error:
        raise UsageError("file_unreadable", f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise FormatError(f"{path} is over {limit} bytes", code="too_large", limit=limit)
    return data


def read_text(path: Path, limit: int) -> str:
    """A text file of at most `limit` bytes. Raises: as `read_bytes`; FormatError."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not UTF-8 text") from None


def read_public(path: Path) -> OpenSshKey:
    """The key of a `.pub` file.

    Raises: UsageError (`file_unreadable`, `private_key_given`); FormatError; SignatureRefused (`bad_key`).
    """
    from keys.openssh_public import parse_public

    text = read_text(path, 4_096)
    if "PRIVATE KEY" in text:
        raise UsageError("private_key_given", f"{path} is a private key", hint="give the .pub file beside it")
    return parse_public(text)


def load_document(path: Path) -> Json:
    """A document that people edit: JSON where the name ends in `.json`, else YAML as strict as a policy's.

    Raises: UsageError, FormatError with the line where there is one.
    """
    if path.suffix == ".json":
        return _load_json(path)
    from policies.yaml_file import load_yaml

    return load_yaml(read_text(path, MAX_YAML), what=str(path))


def load_file(path: Path, model: type[M], form: Form) -> M:
    """A closed value that people edit, as `load_document`.

    Raises: UsageError; FormatError that says the file, the line, the field, what is wrong and what to do.
    """
    from policies.yaml_file import load_model

    if path.suffix != ".json":
        return load_model(read_text(path, MAX_YAML), model, form, what=str(path))
    document = _load_json(path)
    try:
        return model.from_json(document, what=str(path))
    except FormatError as error:
        raise FormatError(error.message, code=form.bad, hint=form.hint) from None


def _load_json(path: Path) -> Json:
    try:
        found: Json = json.loads(
            read_text(path, MAX_JSON), object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float
        )
    except FormatError as error:
        raise _named(path, error) from None
    except RecursionError:
        raise FormatError(f"{path} is nested too deep") from None
    except ValueError as error:
        # A very long number's message goes on about Python's settings.
        raise FormatError(f"{path} is not JSON: {str(error).partition(';')[0]}") from None
    return found


def _named(path: Path, error: FormatError) -> FormatError:
    """The error with the file's name in front, once."""
    message = error.message if error.message.startswith(str(path)) else f"{path}: {error.message}"
    return FormatError(message, code=error.code, hint=error.hint)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("a key stands twice in one object")
    return found


def _no_float(text: str) -> Json:
    raise FormatError(f"{text} is no whole number; write it as text")
