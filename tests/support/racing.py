"""Processes that append to one ledger at the same moment, each with its own registrar, as two machines' users would.

The keys and the log key come as seeds, because a private key is never pickled. A round's two processes read the whole
ledger first, meet at a barrier, and then each says what it wants to say, as often as the law makes it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Empty
from typing import Any, Final
from unittest.mock import patch

from claims import claim_fields
from station import Clock, Station

from keys.errors import CalyxError
from keys.openssh import load_private_key, store_private_key
from keys.principals import Kind
from keys.signer import FileSigner
from ledger.envelope import Envelope, format_envelope_bytes, parse_envelope_bytes
from ledger.log_key import load_log_key, store_log_key
from ledger.objects import DirectoryObjects
from policies.registrar import Registrar, open_registrar
from policies.submitter import Draft

WAIT_S: Final = 60


@dataclass(frozen=True)
class Racer:
    """Who races, and what it says: a draft, made anew on what it has read, or an envelope that was signed before."""

    who: str
    kind: Kind
    says: str
    lead_s: float = 0.0
    envelope: bytes = b""


@dataclass(frozen=True)
class Round:
    """One ledger, and who meets there. `lease`: id and digest."""

    ledger: Path
    lease: tuple[str, str]
    racers: tuple[Racer, ...]


def leave_keys(station: Station) -> Path:
    """Keep a station's keys where other processes find them."""
    folder = station.root / "keys"
    folder.mkdir(mode=0o700, exist_ok=True)
    for name, key in station.keys.items():
        if not (folder / name).exists():
            store_private_key(folder / name, key)
    if not (folder / "log.key").exists():
        store_log_key(folder / "log.key", station.log_key)
    return folder


def race(station: Station, rounds: Sequence[Round]) -> list[list[str]]:
    """Run every round; for each, what each racer got: `ok`, or the code of its refusal."""
    keys = leave_keys(station)
    # Children of a server that has read the modules and nothing else: they start at once, and know no state of ours.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["racing"])
    count = len(rounds[0].racers)
    barrier = context.Barrier(count)
    results: Any = context.Queue()
    arguments = (barrier, results, keys, station.root / "objects", station.clock.now, list(rounds))
    running = [context.Process(target=_run, args=(number, *arguments), daemon=True) for number in range(count)]
    # The server looks for the modules where its environment says, not where this process found them.
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        for process in running:
            process.start()
    outcomes = [[""] * count for _ in rounds]
    try:
        for _ in range(len(rounds) * count):
            at, number, outcome = results.get(timeout=WAIT_S)
            outcomes[at][number] = outcome
    except Empty:
        raise AssertionError("a racer did not come to an end") from None
    finally:
        for process in running:
            process.join(60)
            if process.is_alive():
                process.kill()
                process.join()
    return outcomes


def _run(
    number: int, barrier: Barrier, results: Any, keys: Path, objects: Path, now: int, rounds: Sequence[Round]
) -> None:
    clock, log_key = Clock(now), load_log_key(keys / "log.key")
    signers = {each.who: each for one in rounds for each in one.racers}
    opened = {name: FileSigner(name, racer.kind, load_private_key(keys / name)) for name, racer in signers.items()}
    for at, one in enumerate(rounds):
        racer = one.racers[number]
        kept = DirectoryObjects(objects)
        with open_registrar(one.ledger, kept, log_key, None, clock=clock, random=os.urandom) as registrar:
            registrar.sync()
            barrier.wait(WAIT_S)
            until = time.perf_counter() + racer.lead_s
            while time.perf_counter() < until:
                pass
            results.put((at, number, _say(registrar, opened[racer.who], racer, one.lease)))


def _say(registrar: Registrar, signer: FileSigner, racer: Racer, lease: tuple[str, str]) -> str:
    try:
        if racer.envelope:
            registrar.append([parse_envelope_bytes(racer.envelope)])
        elif racer.says == "claim":
            state = registrar.state
            registrar.submit(signer, Draft("claim", claim_fields(state, lease), lease))
        else:
            registrar.submit(signer, Draft("objection", {"verb": racer.says, "reason": "a race"}, lease))
    except CalyxError as error:
        return error.code
    return "ok"


def sealed(envelope: Envelope) -> bytes:
    """An envelope for another process."""
    return format_envelope_bytes(envelope)
