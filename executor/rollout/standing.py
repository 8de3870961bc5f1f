"""Where an executor is, as figures: read from the fold alone."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from executor.metrics.gates import judge_deployment
from executor.rollout.figures import GateFigure, Standing
from policies.fold.state import State


def take_standing(state: State, now: int, open_leases: int) -> Standing:
    """The figures of an executor that acts. `now`: seconds since 1970."""
    live = [state.deployments[digest] for digest in state.live.values()]
    gates = [
        GateFigure(
            lease=deployment.lease.id,
            target=deployment.lease.target,
            gate=reading.gate,
            state=reading.state,
            value=_number(reading.value),
            baseline=_number(reading.baseline),
            limit=float(reading.limit),
        )
        for deployment in live
        if deployment.bake_started_at is not None
        for reading in judge_deployment(deployment, now).readings
    ]
    return Standing(
        role="acting",
        entries=state.size,
        epoch=0 if state.term is None else state.term.epoch,
        deployments=Counter(deployment.phase.value for deployment in live),
        open_leases=open_leases,
        gates=gates,
    )


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
