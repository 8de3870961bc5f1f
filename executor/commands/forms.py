"""What several commands print as JSON, each thing in one form. docs/JSON.md is the table of the names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from executor.views.progress import Progress
    from keys.errors import CalyxError


def fault_form(code: str, seq: int | None, message: str) -> dict[str, Any]:
    """Something that is wrong. `seq`: the entry that it is about, None for the ledger as a whole."""
    return {"code": code, "seq": seq, "message": message}


def error_form(error: CalyxError, exit_code: int) -> dict[str, Any]:
    """A refusal. `exit_code`: what the process ends with. What it does not have is None."""
    rule, step, seq = (error.fields.get(name) for name in ("rule", "step", "entry"))
    said = {"code": error.code, "message": error.message, "hint": error.hint or None, "exit_code": int(exit_code)}
    return {**said, "rule": rule, "step": step, "seq": seq}


def preflight_form(failed: Iterable[tuple[int, str, str]]) -> list[dict[str, Any]]:
    """Why an executor did not take a lease up: seq, code and text of each time."""
    return [{"seq": seq, "code": code, "text": text} for seq, code, text in failed]


def progress_form(progress: Progress) -> dict[str, Any]:
    """How far a deployment is."""
    whole, needed = progress.samples
    return {
        "lease_id": progress.lease,
        "target": progress.target,
        "state": progress.phase,
        "live": not progress.ended,
        "tier": progress.tier,
        "tiers": [asdict(tier) for tier in progress.tiers],
        "gates": [asdict(gate) for gate in progress.gates],
        "samples": {"whole": whole, "needed": needed},
        "left_s": progress.left_s,
        "note": progress.note,
    }
