"""What leads toward safety: the statements for which a full disk's reserve is given up, and no others."""

from __future__ import annotations

from typing import Final

from ledger.statement import Statement

ORDERS: Final = frozenset({"pause", "abort", "rollback"})
EVENTS: Final = frozenset(
    {"PAUSED", "HALTED", "ABORTED", "ROLLBACK_STARTED", "INSTANCE_RESTORED", "ROLLED_BACK", "ROLLBACK_FAILED"}
)
VERDICTS: Final = frozenset({"breach", "abort", "missing"})


def leads_back(statement: Statement) -> bool:
    """Whether a statement stops a deployment, takes one back, or begins the term under which that is done."""
    predicate = statement.predicate
    if statement.kind == "event":
        detail = predicate.get("detail")
        if not isinstance(detail, dict):
            return False
        return detail.get("type") in EVENTS or (detail.get("type") == "VERDICT" and detail.get("verdict") in VERDICTS)
    return statement.kind == "term" or (statement.kind == "command" and predicate.get("verb") in ORDERS)
