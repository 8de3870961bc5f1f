"""The row of a person's order: how soon a running executor answers what leads toward safety."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from bench_measure import CHECKOUT, Row, Spread, warmed
from ledger_factory import Factory

from executor.homes.home import Home
from keys.openssh import store_private_key
from keys.signer import FileSigner
from keys.values import format_time
from ledger.log_key import store_log_key
from policies.submitter import Draft

CLAIMED: Final = 11
"""Entries of a ledger whose last one is a claim: nothing was touched yet."""
PATIENCE_S: Final = 60
_LOOK_S: Final = 0.002


def order_row(root: Path, runs: int) -> Row:
    """From a signed order in the ledger to the executor's entry that answers it, by a real `calyx executor run`."""
    place = root / "order"
    place.mkdir()
    factory = Factory(place / "home", now=int(time.time()), where=str(place / "srv"))
    factory.fill(CLAIMED)
    with Home(place / "home") as home:
        home.make()
        store_log_key(home.log_key, factory.log_key)
        for name in ("cp19", "cp20"):
            store_private_key(home.root / "keys" / f"{name}.key", factory.private[name])
    environment = warmed(place)
    seconds = []
    for number in range(runs):
        copy = place / f"home-{number}"
        shutil.copytree(place / "home", copy)
        seconds.append(_answer(copy, factory.signers["ada"], environment))
    return Row(
        "order",
        "a signed order in the ledger to the entry of a running executor that answers it",
        "s",
        Spread.of(seconds),
        bars=(1.0,),
        over=False,
        note="an abort of a paused deployment; the executor looks ten times a second",
    )


def _answer(root: Path, ada: FileSigner, environment: dict[str, str]) -> float:
    """Pause before the executor begins, so that nothing is ever touched, and abort while it runs."""
    with Home(root) as home:
        registrar = home.open_registrar()
        state = registrar.sync()
        (deployment,) = state.deployments.values()
        subject = (deployment.lease.id, deployment.lease_digest)

        def order(verb: str) -> None:
            fields = {"verb": verb, "expires_at": format_time(registrar.now() + 600), "state": None, "tier": None,
                      "skip_bake": False, "reason": "measured"}  # fmt: skip
            registrar.submit(ada, Draft("command", fields, subject))

        def wait_for(phase: str) -> float:
            end = time.monotonic() + PATIENCE_S
            while registrar.sync().deployments[subject[1]].phase != phase:
                if time.monotonic() > end:
                    raise RuntimeError(f"the executor did not come to {phase}")
                time.sleep(_LOOK_S)
            return time.perf_counter()

        order("pause")
        command = [sys.executable, "-m", "executor", "executor", "run", "--home", str(root)]
        with subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as executor:
            try:
                wait_for("PAUSED")
                order("abort")
                begun = time.perf_counter()
                return wait_for("ABORTED") - begun
            finally:
                executor.terminate()
                executor.wait(PATIENCE_S)
