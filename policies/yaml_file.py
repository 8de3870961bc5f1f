"""Documents that people edit, as YAML: read strictly, and every error names its line.

YAML 1.2 without what makes two readers see two things: no anchors, aliases, merges, tags or second documents, no key
twice, and numbers are plain whole ones. A decimal is written as text ("0.5"), because a float has no exact value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionStartEvent, DocumentStartEvent, MappingEndEvent, SequenceEndEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from keys.canonical import MAX_INTEGER, Json
from keys.errors import FormatError
from keys.faults import first_fault
from keys.values import Model, tell_fault

M = TypeVar("M", bound=Model)

MAX_CHARACTERS: Final = 256 * 1024
MAX_DEPTH: Final = 16

_TAG: Final = "tag:yaml.org,2002:"
_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of document is spoken of. `bad`: the code of a value that is wrong, `bad_yaml`: of text that is no
    such YAML. `hint`: where each field is explained.
    """

    bad: str
    bad_yaml: str
    hint: str


def load_yaml(text: str, *, what: str = "") -> Json:
    """Read a document of at most 262,144 characters. `what`: its name, such as that of its file.

    Raises: FormatError (`bad_yaml`, `too_large`) with the line in its message and in `line`, counted from 1.
    """
    try:
        return _value(_compose(text))
    except FormatError as error:
        raise _named(error, what, "bad_yaml", "") from None


def load_model(text: str, model: type[M], form: Form, *, what: str) -> M:
    """Read a document that is a value of a closed type; as `load_yaml`.

    Raises: FormatError that says the document, the line, the field, what is wrong with it and what to do.
    """
    try:
        root = _compose(text)
        value = _value(root)
    except FormatError as error:
        raise _named(error, what, form.bad_yaml, form.hint) from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _named(_fault(root, error), what, form.bad, form.hint) from None


def fault_at(text: str, place: tuple[str, ...], message: str, *, what: str, form: Form, hint: str) -> FormatError:
    """What is wrong with the field at a place of a document that could be read otherwise."""
    return _named(_bad(_find(_compose(text), place), f"{'.'.join(place)}: {message}", hint=hint), what, form.bad, "")


def _fault(root: Node, error: ValidationError) -> FormatError:
    faults = error.errors(include_url=False, include_input=False)
    first = first_fault(faults)
    # A name that is wrong is told as what stands there, not as a part of it.
    place = tuple(str(part) for part in first["loc"] if part != "[key]")
    where, words = ".".join(place), tell_fault(first)
    if first["type"] == "missing":
        return _bad(_find(root, place[:-1]), f"{where} is missing", hint="")
    if first is not faults[0]:
        words += f"; {faults[0]['loc'][-1]} is missing"
    node = _find(root, place)
    hint = f'quote it: "{_shown(node.value)}"' if first["type"] == "string_type" and _is_integer(node) else ""
    return _bad(node, f"{where}: {words}" if where else words, hint=hint)


def _named(error: FormatError, what: str, code: str, hint: str) -> FormatError:
    message = f"{what}, {error.message}" if what else error.message
    code = error.code if error.code == "too_large" else code
    return FormatError(message, code=code, hint=error.hint or hint, **error.fields)


def _compose(text: str) -> Node:
    """The document's nodes, once the events have shown that composing them is cheap and unambiguous."""
    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"it is over {MAX_CHARACTERS} characters", code="too_large", limit=MAX_CHARACTERS)
    try:
        _check_events(text)
        root = _reader().compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        raise _bad(line, f"not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        # A character that YAML does not allow carries no line.
        raise _bad(1, f"not YAML: {str(error).splitlines()[0]}") from None
    if root is None:
        raise _bad(1, "there is nothing in it")
    return root  # type: ignore[no-any-return]  # the library has no types for it


def _check_events(text: str) -> None:
    depth = documents = 0
    for event in _reader().parse(text):
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _bad(line, "anchors and aliases are not allowed; write the value out")
        if getattr(event, "tag", None) is not None:
            raise _bad(line, "tags are not allowed")
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _bad(line, "there is a second document; write one")
            if event.version not in (None, (1, 2)):
                raise _bad(line, "only YAML 1.2 is read")
        elif isinstance(event, CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _bad(line, f"nested deeper than {MAX_DEPTH}")
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            depth -= 1


def _reader() -> YAML:
    # Pure Python: the C reader follows YAML 1.1, where `on` and `no` are booleans.
    return YAML(typ="safe", pure=True)


def _value(node: Node) -> Json:
    if isinstance(node, MappingNode):
        mapping: dict[str, Json] = {}
        for key, item in node.value:
            name = _key(key)
            if name in mapping:
                raise _bad(key, f"the key {name!r} stands twice")
            mapping[name] = _value(item)
        return mapping
    if isinstance(node, SequenceNode):
        return [_value(item) for item in node.value]
    return _scalar(node)


def _key(node: Node) -> str:
    # The phases are numbered, and a person writes `0:`; JSON has text keys only.
    if isinstance(node, ScalarNode) and (node.tag == _TAG + "str" or _is_integer(node)):
        return str(node.value)
    if node.tag == _TAG + "merge":
        raise _bad(node, "merge keys are not allowed; write the fields out")
    raise _bad(node, "a key is plain text")


def _scalar(node: Node) -> Json:
    text = str(node.value)
    kind = str(node.tag).removeprefix(_TAG)
    if kind == "str":
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if _is_integer(node):
        return int(text)
    if kind == "int":
        raise _bad(node, f"{_shown(text)} is not a plain whole number", hint=f'write digits only, or "{_shown(text)}"')
    if kind == "float":
        raise _bad(node, f"{_shown(text)} is a float", hint=f'quote decimals: "{_shown(text)}"')
    raise _bad(node, f"a {kind} is not allowed here", hint=f'quote text: "{_shown(text)}"')


def _is_integer(node: Node) -> bool:
    return node.tag == _TAG + "int" and _INTEGER.fullmatch(node.value) is not None and int(node.value) <= MAX_INTEGER


def _shown(text: str) -> str:
    return ascii(text[:40])[1:-1]


def _find(root: Node, place: tuple[str, ...]) -> Node:
    """The node at a place, or the nearest one above it: a place may also name part of a type."""
    node = root
    for part in place:
        if isinstance(node, MappingNode):
            found = next((_marked(key, item) for key, item in node.value if str(key.value) == part), None)
        elif isinstance(node, SequenceNode) and part.isdecimal() and int(part) < len(node.value):
            found = node.value[int(part)]
        else:
            found = None
        if found is None:
            continue
        node = found
    return node


def _marked(key: Node, item: Node) -> Node:
    """What to point at: the mark of an empty value lies somewhere behind it."""
    return key if item.start_mark.index == item.end_mark.index else item


def _bad(where: Node | int, message: str, *, hint: str = "") -> FormatError:
    line = where if isinstance(where, int) else where.start_mark.line + 1
    return FormatError(f"line {line}: {message}", hint=hint, line=line)
