"""What leads toward safety: the statements for which a full disk's reserve is given up, and no others."""

from __future__ import annotations

from typing import Any, Final

from ledger.statement import Statement

ORDERS: Final = frozenset({"pause", "abort", "rollback"})
EVENTS: Final = frozenset(
    {"PAUSED", "HALTED", "ABORTED", "ROLLBACK_STARTED", "INSTANCE_RESTORED", "ROLLED_BACK", "ROLLBACK_FAILED"}
)
VERDICTS: Final = frozenset({"breach", "abort", "missing"})


def leads_back(statement: Statement) -> bool:
    """Whether a statement stops a deployment, takes one back, or begins the term under which that is done. It was read,
    and nothing else: what its predicate holds may be of any type.
    """
    predicate = statement.predicate
    if statement.kind == "event":
        detail = predicate.get("detail")
        if not isinstance(detail, dict):
            return False
        return _one_of(detail, "type", EVENTS) or (
            detail.get("type") == "VERDICT" and _one_of(detail, "verdict", VERDICTS)
        )
    return statement.kind == "term" or (statement.kind == "command" and _one_of(predicate, "verb", ORDERS))


def _one_of(told: dict[str, Any], name: str, words: frozenset[str]) -> bool:
    word = told.get(name)
    return isinstance(word, str) and word in words
