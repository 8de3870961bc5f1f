"""Forgeries of the order of a deployment: in each phase one event of each type that is not possible there."""

from __future__ import annotations

from typing import Any

from forging import Forge, digest_of
from reject_registry import add
from reject_stories import (
    gate_values,
    halt,
    pause,
)

from policies.fold.deployment import MOVES, Phase

A, B, C = digest_of(1), digest_of(2), digest_of(3)

# The table of moves: in each phase one event of each type that is not possible there.

DETAILS: dict[str, dict[str, Any]] = {
    "STARTED": {},
    "TIER_INTENT": {"tier": 25},
    "INSTANCE_APPLIED": {"tier": 25, "instance": "web-04", "tree": B},
    "TIER_APPLIED": {"tier": 25},
    "BAKE_STARTED": {"tier": 25},
    "CANARY_PROMOTED": {"tier": 25, "to": 100},
    "PAUSED": {"cause": "hand", "command": None, "text": ""},
    "RESUMED": {"command": None},
    "HALTED": {"cause": "hand", "gate": None, "evidence": None, "text": ""},
    "ROLLBACK_STARTED": {"cause": "hand", "command": None},
    "INSTANCE_RESTORED": {"instance": "web-04", "tree": A, "rebuilt": False, "warning": None},
    "ROLLED_BACK": {},
    "ROLLBACK_FAILED": {"instances": [], "text": ""},
    "COMPLETED": {},
    "ABORTED": {"cause": "hand", "text": ""},
    "BASELINE": {"values": gate_values()},
    "SAMPLE": {"tier": 25, "n": 9, "values": gate_values(), "trees": [], "raw": None},
    "VERDICT": {"tier": 25, "n": 0, "verdict": "missing", "gate": None, "text": ""},
}


def _nothing(f: Forge) -> None:
    """The moment is the phase."""


def _fail(f: Forge) -> None:
    left = sorted(f.state.deployments[f.it[1]].intended - f.state.deployments[f.it[1]].restored)
    f.event("cp20", f.it, "ROLLBACK_FAILED", instances=left, text="")


def _abort(f: Forge) -> None:
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")


PHASES: dict[Phase, tuple[str, Any]] = {
    Phase.CLAIMED: ("claimed", _nothing),
    Phase.DEPLOYING: ("started", _nothing),
    Phase.BAKING: ("baking", _nothing),
    Phase.PROMOTED: ("promoted", _nothing),
    Phase.PAUSED: ("baking", lambda f: pause(f, f.it)),
    Phase.HALTED: ("baking", lambda f: halt(f, f.it)),
    Phase.ROLLING_BACK: ("rolling", _nothing),
    Phase.ROLLED_BACK: ("back", _nothing),
    Phase.ROLLBACK_FAILED: ("rolling", _fail),
    Phase.COMPLETED: ("completed", _nothing),
    Phase.ABORTED: ("claimed", _abort),
}


def _illegal(phase: Phase, moment: str, prepare: Any, type_: str) -> None:
    def doing(f: Forge) -> None:
        prepare(f)
        who = "cp19" if type_ in {"BASELINE", "SAMPLE", "VERDICT"} else "cp20"
        f.forge_event(who, f.it, type_, **DETAILS[type_])

    add(f"move_{type_}_in_{phase}".lower(), f"{type_} while it is {phase}.", moment, "illegal_transition", doing)


for _phase, (_moment, _prepare) in PHASES.items():
    for _type in DETAILS:
        if (_phase, _type) not in MOVES:
            _illegal(_phase, _moment, _prepare, _type)
