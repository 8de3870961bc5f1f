"""Who a station's principals are, and the terms of its policy and fleet, as JSON material."""

from __future__ import annotations

from typing import Any

from keys.principals import Kind
from keys.values import parse_time

START = parse_time("2026-01-05T09:00:00Z")

PEOPLE: dict[str, tuple[Kind, str, list[str]]] = {
    "ada": ("human", "ada", ["approver", "governor", "operator"]),
    "ben": ("human", "ben", ["approver", "governor", "operator"]),
    "cbo": ("overseer", "cbo", ["proposer"]),
    "cp14": ("agent", "cp14", ["sentinel"]),
    "cp18": ("agent", "cp18", ["validator"]),
    "cp19": ("monitor", "cp19", []),
    "cp20": ("executor", "cp20", []),
    "cp20b": ("executor", "cp20b", []),
}

GATES: list[dict[str, Any]] = [
    {
        "name": "error_rate",
        "source": "error_rate",
        "against": "absolute",
        "breach": "above",
        "limit": "10",
        "absolute": None,
        "for_s": 0,
        "min_samples": 1,
        "missing_s": 60,
        "min_requests": 1,
    },
    {
        "name": "tes",
        "source": "tes",
        "against": "baseline",
        "breach": "below",
        "limit": "5",
        "absolute": "70",
        "for_s": 0,
        "min_samples": 1,
        "missing_s": 60,
        "min_requests": 0,
    },
]


def matrix(**changes: Any) -> dict[str, Any]:
    """A policy as JSON material; `changes` replace members of `deploy_production`."""
    terms: dict[str, Any] = {
        "enabled": True,
        "targets": {"web": {"paths": ["app.py", "static/", "VERSION"]}},
        "tiers": [5, 25, 100],
        "bake_s": 30,
        "interval_s": 15,
        "retention_s": 7 * 86_400,
        "start": "auto",
        "promotion": "auto",
        "skip_bake": False,
        "look": False,
        "reviews": ["sentinel"],
        "gates": GATES,
        "hooks": {},
        "break_glass": {
            "enabled": True,
            "max_validity_s": 900,
            "review_within_s": 86_400,
            "user_verification": False,
        },
        "notify": {},
    }
    phases = {
        "0": {"name": "reflect", "status": "implemented", "capabilities": ["intent"]},
        "1": {"name": "review", "status": "implemented", "capabilities": ["propose"]},
        "2": {"name": "sandbox", "status": "implemented", "capabilities": ["test"]},
        "3": {"name": "deploy", "status": "implemented", "capabilities": ["deploy_production"]},
    }
    return {"version": 1, "phases": phases, "deploy_production": {**terms, **changes}}


def fleet(count: int = 20, **instance: Any) -> dict[str, Any]:
    """A fleet with one target `web` of `count` instances, as material for `Fleet.from_json`."""
    instances = [{"name": f"web-{n:02}", "root": f"/srv/web-{n:02}", **instance} for n in range(1, count + 1)]
    return {"targets": {"web": {"instances": instances, "max_unavailable": 4}}}
