"""The three agents by name, for whoever starts them as processes."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from executor.agents.loop import Agent, Ledger, Log
from executor.agents.monitor import Monitor
from executor.agents.review import Reviewer
from executor.agents.sentinel import Sentinel
from executor.agents.validator import Validator
from executor.metrics.local import open_meters
from executor.preflight import Hosts
from keys.errors import UsageError
from keys.principals import Principal
from keys.signer import Signer
from ledger.objects import ObjectStore

AGENTS: Final = ("cp14", "cp18", "cp19")


def make_agent(
    principal: Principal, ledger: Ledger, signer: Signer, objects: ObjectStore, hosts: Hosts, log: Log
) -> Agent:
    """The agent that this principal's kind and role make it. `signer`: the only key that the process opens.

    Raises: UsageError (`not_an_agent`) for a principal that is none of the three.
    """
    if principal.kind == "monitor":
        meters = partial(open_meters, clock=ledger.now, monotonic=time.monotonic)
        return Monitor(ledger, signer, objects, hosts, meters, monotonic=time.monotonic, log=log)
    if principal.kind == "agent" and "sentinel" in principal.roles:
        inspector = Sentinel(objects)
        return Reviewer("sentinel", inspector, ledger, signer, objects, monotonic=time.monotonic, log=log)
    if principal.kind == "agent" and "validator" in principal.roles:
        return Reviewer("validator", Validator(objects), ledger, signer, objects, monotonic=time.monotonic, log=log)
    raise UsageError(
        "not_an_agent",
        f"{principal.id} is neither a sentinel, a validator nor a monitor",
        hint=f"name one of the agents, such as {', '.join(AGENTS)}",
    )
