"""The tables of docs/FORMAT.md are made again from the models and the deployment table and compared byte for byte, and
every code with which the law refuses is in the document.

After a change, `PYTHONPATH=tests/support python tests/unit/project/test_docs_tables.py` writes the tables again.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Le, MaxLen, MinLen
from documents import CHECKOUT, FORMAT, read_part, write_parts
from msgspec import Meta, structs
from pydantic import Strict
from pydantic.fields import FieldInfo

from keys import principals, values
from keys.canonical import MAX_INTEGER
from keys.plain import Plain
from keys.values import Model
from ledger.objects import ObjectRef
from ledger.statement import SELF_SUBJECT, HeadRef
from policies import event_kinds, fleet, kinds, matrix
from policies.fold.deployment import MOVES, Phase
from policies.law.position import PREDICATES

Shape: TypeAlias = type[Model] | type[Plain]

# The tables of kinds, events and shapes: one row for each model, its fields in canonical order.

COMMON: Final = ("by", "head", "ledger", "made_at", "nonce")
NAMED: Final[tuple[tuple[Any, str], ...]] = (
    (values.Hash, "hash"),
    (values.Nonce, "nonce"),
    (values.Ident, "id"),
    (values.Time, "time"),
    (values.DecimalText, "decimal"),
    (values.Count, "count"),
    (values.One, "1"),
    (values.Text, "text"),
    (principals.PublicLine, "key line"),
    (kinds.Names, "names"),
    (kinds.Paths, "paths"),
    (kinds.Tree, "tree"),
    (matrix.Percent, "percent"),
    (matrix.PathRule, "path rule"),
    (fleet.Word, "word"),
    (fleet.Url, "url"),
    (fleet.Seconds, "seconds"),
    (fleet.AbsolutePath, "absolute path"),
    (fleet.RelativePath, "relative path"),
    (fleet.Address, "address"),
    (fleet.HostKey, "host key"),
    (fleet.EnvName, "variable"),
    (fleet.EnvValue, "value"),
    (fleet.Timeout, "timeout"),
    (str, "string"),
    (int, "integer"),
    (bool, "boolean"),
    (type(None), "null"),
)
SHAPES: Final[tuple[Shape, ...]] = (
    HeadRef,
    ObjectRef,
    kinds.Continues,
    principals.TrustRoot,
    principals.Principal,
    principals.KeyEntry,
    principals.Thresholds,
    principals.Compromise,
    matrix.CapabilityMatrix,
    matrix.Phases,
    matrix.Phase,
    matrix.DeployProduction,
    matrix.TargetRule,
    matrix.Gate,
    matrix.Hook,
    matrix.BreakGlass,
    kinds.Artifact,
    kinds.Change,
    kinds.CohortTier,
    kinds.SeenTree,
    event_kinds.GateValue,
    fleet.Fleet,
    fleet.Target,
    fleet.Instance,
    fleet.Process,
    fleet.Reload,
    fleet.Probe,
    fleet.Metrics,
    fleet.Counters,
    fleet.Prometheus,
    fleet.TesFile,
    fleet.Hooks,
)


def details() -> dict[str, Shape]:
    """Type -> model of what an event tells, in the order of their definition."""
    return dict(event_kinds.DETAILS)


def spell(hint: Any) -> str:
    """A type as the document spells it."""
    for known, name in NAMED:
        if hint == known:
            return name
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        notes = list(chain.from_iterable(m.metadata if isinstance(m, FieldInfo) else [m] for m in args[1:]))
        return spell(args[0]) + bounds(notes)
    if origin in (Union, types.UnionType):
        if event_kinds.Started in args:
            return "event detail"
        return " or ".join(spell(arg) for arg in args)
    if origin is Literal:
        return " or ".join(f'"{arg}"' if isinstance(arg, str) else str(arg) for arg in args)
    if origin is tuple:
        return f"[{spell(args[0])}]"
    if origin is dict:
        return f"{{{spell(args[0])}: {spell(args[1])}}}"
    if isinstance(hint, type) and issubclass(hint, Model | Plain):
        return hint.__name__
    raise TypeError(f"the document has no word for {hint}")


def bounds(notes: list[Any]) -> str:
    """Limits on a value or on how many there are."""
    # A bound may stand on an alias and again, closer, where it is used.
    notes = list(chain.from_iterable(_bounds_of(n) if isinstance(n, Meta) else [n] for n in notes))
    low = max((_low(n) for n in notes if isinstance(n, Ge | MinLen)), default=None)
    high = min((_high(n) for n in notes if isinstance(n, Le | MaxLen)), default=None)
    others = [n for n in notes if not isinstance(n, Ge | Le | MinLen | MaxLen | Strict)]
    if any(getattr(n, "pattern", None) for n in others):
        raise TypeError(f"the document has no word for {others}")
    if low is None and high is None:
        return ""
    if low == high:
        return f" {low}"
    return f" {low or 0}..{'' if high in (None, MAX_INTEGER) else high}"


def _bounds_of(meta: Meta) -> list[Any]:
    known: tuple[tuple[Any, Any], ...] = (
        (Ge, meta.ge),
        (Le, meta.le),
        (MinLen, meta.min_length),
        (MaxLen, meta.max_length),
    )
    return [make(value) for make, value in known if value is not None]


def _low(note: Ge | MinLen) -> int:
    return int(str(note.ge if isinstance(note, Ge) else note.min_length))


def _high(note: Le | MaxLen) -> int:
    return int(str(note.le if isinstance(note, Le) else note.max_length))


def fields(model: Shape, leave: tuple[str, ...] = ()) -> str:
    """A model's fields and their types, sorted as canonical JSON has them."""
    hints = get_type_hints(model, include_extras=True)
    if issubclass(model, Plain):
        names = {field.encode_name: hints[field.name] for field in structs.fields(model)}
    else:
        names = {info.alias or name: hints[name] for name, info in model.model_fields.items()}
    return ", ".join(f"`{name}` {spell(names[name])}" for name in sorted(names) if name not in leave) or "nothing more"


def kinds_block() -> str:
    rows = ["| kind | subject | fields besides the common five |", "|---|---|---|"]
    for kind, model in PREDICATES.items():
        subject = (
            "itself"
            if kind in SELF_SUBJECT
            else "a lease"
            if kind not in {"cosignature", "objection"}
            else "a lease or proposal"
        )
        rows.append(f"| `{kind}` | {subject} | {fields(model, COMMON)} |")
    return "\n".join(rows)


def events_block() -> str:
    rows = ["| `type` | fields besides `type` |", "|---|---|"]
    rows += [f"| `{name}` | {fields(model, ('type',))} |" for name, model in details().items()]
    return "\n".join(rows)


def shapes_block() -> str:
    rows = ["| shape | fields |", "|---|---|"]
    rows += [f"| {model.__name__} | {fields(model)} |" for model in SHAPES]
    return "\n".join(rows)


def moves_block() -> str:
    """The deployment table by phase: each event that is possible there, and where it leads if it leads away."""
    rows = ["| phase | events, and the phase after each |", "|---|---|"]
    for phase in Phase:
        moves = {event: after for (at, event), after in MOVES.items() if at is phase}
        stay = [f"`{event}`" for event, after in moves.items() if after is phase and event != "RESUMED"]
        away = [
            f"`{event}` -> {'the phase before PAUSED' if event == 'RESUMED' else after}"
            for event, after in moves.items()
            if after is not phase or event == "RESUMED"
        ]
        rows.append(f"| {phase} | {', '.join([*away, *([f'stays: {chr(32).join(stay)}'] if stay else [])])} |")
    return "\n".join(rows)


TABLES: Final[dict[str, Callable[[], str]]] = {
    "kinds": kinds_block,
    "events": events_block,
    "shapes": shapes_block,
    "moves": moves_block,
}


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_format_are_those_of_the_code(name: str) -> None:
    assert read_part(FORMAT, name) == TABLES[name]()


# Every code with which the law refuses is in the document.


def law_codes() -> set[str]:
    """The codes that the law and the two-key rule refuse with, from their source."""
    codes = set()
    policies = CHECKOUT / "policies"
    for path in (policies / "law").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"refuse": 0, "LawRefused": 0, "fail_step": 1}.get(node.func.id)
            if place is not None and len(node.args) > place:
                code = node.args[place]
                if isinstance(code, ast.Constant):
                    codes.add(str(code.value))
    return codes


def test_every_code_of_the_law_is_in_the_document() -> None:
    codes = law_codes()
    assert {"repeated", "quorum_unmet", "lease_consumed"} <= codes
    text = FORMAT.read_text("utf-8")
    assert sorted(code for code in codes if f"`{code}`" not in text) == []


if __name__ == "__main__":
    write_parts(FORMAT, TABLES)
