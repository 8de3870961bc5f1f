"""Whether a file's content is well-formed: Python, JSON, YAML and TOML, read and never run.

As a program (`python -I -m executor.agents.syntax`) this is a child with little memory and no way to write files,
which `executor.agents.sandbox` asks about one content after another. Each question is a line `KIND LENGTH` and that
many bytes; the answer is a line, empty when the content is well-formed.

A Python file is compiled by the interpreter that runs this; a newer syntax than its own is an error to it.
"""

from __future__ import annotations

import json
import sys
import tomllib
import warnings
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["python", "json", "yaml", "toml"]

KINDS: Final[dict[str, Kind]] = {
    ".py": "python",
    ".pyi": "python",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
}
MAX_BYTES: Final[dict[Kind, int]] = {
    "python": 4 * 1024 * 1024,
    "json": 16 * 1024 * 1024,
    "yaml": 1024 * 1024,
    "toml": 4 * 1024 * 1024,
}
"""More than this is not read: what cannot be checked does not pass."""
MAX_NODES: Final = 1_000_000
"""Nodes of a YAML document with every alias replaced by what it stands for."""
MAX_DEPTH: Final = 100
MAX_MEMORY: Final = 2 * 1024 * 1024 * 1024


class NotWellFormed(ValueError):
    """What is wrong, in one line."""


def kind_of(path: str) -> Kind | None:
    """The kind of file that a path's ending says, or None for one that is not checked."""
    return KINDS.get(PurePosixPath(path.lower()).suffix)


def check(kind: Kind, data: bytes) -> None:
    """Prove that content is well-formed.

    Raises: NotWellFormed.
    """
    try:
        _CHECKS[kind](data)
    except NotWellFormed:
        raise
    except RecursionError:
        raise NotWellFormed("it is nested too deeply") from None
    except MemoryError:
        raise NotWellFormed("it needs too much memory") from None
    except UnicodeDecodeError as error:
        raise NotWellFormed(f"byte {error.start} is not UTF-8") from None
    except SyntaxError as error:
        raise NotWellFormed(_at(error.lineno, error.msg)) from None
    except ValueError as error:
        raise NotWellFormed(str(error)) from None


def _check_python(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Bytes, so that the file's own declaration of its encoding is obeyed and checked.
        compile(data, "<file>", "exec", dont_inherit=True)


def _check_json(data: bytes) -> None:
    try:
        json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise NotWellFormed(_at(error.lineno, error.msg)) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise NotWellFormed(f"the key {key[:100]!r} occurs twice in an object")
        value[key] = item
    return value


def _no_constant(name: str) -> None:
    raise NotWellFormed(f"{name} is not JSON")


def _check_toml(data: bytes) -> None:
    tomllib.loads(data.decode())


def _check_yaml(data: bytes) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = data.decode("utf-8-sig")
    try:
        expansion = _Expansion()
        for event in YAML(typ="safe", pure=True).parse(text):
            expansion.add(event)
        # Only now: what is loaded holds each alias's value once, but merge keys copy theirs.
        for _ in YAML(typ="safe", pure=True).load_all(text):
            pass
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise NotWellFormed(_at(None if mark is None else mark.line + 1, str(error.problem or error.context))) from None
    except YAMLError as error:
        raise NotWellFormed(str(error).partition("\n")[0]) from None


class _Expansion:
    """Counts the nodes of a YAML document as if every alias were written out."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._open: list[tuple[str | None, int]] = []

    def add(self, event: Any) -> None:
        """Take the parser's next event. Raises: NotWellFormed when the document grows past a limit."""
        match type(event).__name__:
            case "DocumentStartEvent":
                self._sizes, self._open = {}, [(None, 0)]
            case "ScalarEvent":
                self._count(event.anchor, 1)
            case "SequenceStartEvent" | "MappingStartEvent":
                self._open.append((event.anchor, 0))
                if len(self._open) > MAX_DEPTH:
                    raise NotWellFormed("it is nested too deeply")
            case "SequenceEndEvent" | "MappingEndEvent":
                anchor, size = self._open.pop()
                self._count(anchor, size + 1)
            case "AliasEvent":
                if event.anchor not in self._sizes:
                    raise NotWellFormed("an alias stands for nothing before it, or for what it is part of")
                self._count(None, self._sizes[event.anchor])
            case _:
                pass  # where the stream and its documents end

    def _count(self, anchor: str | None, size: int) -> None:
        above, total = self._open[-1]
        if total + size > MAX_NODES:
            raise NotWellFormed(f"its aliases stand for more than {MAX_NODES} nodes")
        self._open[-1] = (above, total + size)
        if anchor is not None:
            self._sizes[anchor] = size


def _at(line: int | None, text: str) -> str:
    return text if line is None else f"line {line}: {text}"


_CHECKS: Final[dict[Kind, Callable[[bytes], None]]] = {
    "python": _check_python,
    "json": _check_json,
    "yaml": _check_yaml,
    "toml": _check_toml,
}


def _limit_self() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    names: dict[str, Kind] = {kind: kind for kind in _CHECKS}
    while line := questions.readline(100):
        kind, length = line.decode("ascii").split()
        data = questions.read(int(length))
        answer = ""
        try:
            check(names[kind], data)
        except NotWellFormed as error:
            answer = " ".join(str(error).split())[:200] or "it is not well-formed"
        except Exception as error:  # noqa: BLE001  # a parser's defect, found by hostile content, is the content's fault
            answer = f"the parser failed: {type(error).__name__}"
        answers.write(answer.encode("ascii", "backslashreplace") + b"\n")
        answers.flush()


if __name__ == "__main__":
    _limit_self()
    _serve(sys.stdin.buffer, sys.stdout.buffer)
