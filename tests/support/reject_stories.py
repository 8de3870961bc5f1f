"""The lawful ledgers that forgers start from: three stories, with names for the moments that matter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forging import Forge, Subject, digest_of, trust
from forging import policy as make_policy
from terms import GATES, fleet


@dataclass
class Story:
    """A ledger, and how it was at each moment with a name."""

    ledger: Forge = field(default_factory=Forge)
    moments: dict[str, Forge] = field(default_factory=dict)

    def mark(self, name: str) -> None:
        """Keep how things are now."""
        self.moments[name] = self.ledger.fork()


def fleet_body(count: int = 4, **changes: Any) -> dict[str, Any]:
    """The fleet of the stories; one instance is a canary. `changes`: of every instance."""
    body = fleet(count, **changes)
    body["targets"]["web"]["instances"][-1]["labels"] = {"canary": "true"}
    return body


def gate_values(value: str | None = "90") -> list[dict[str, Any]]:
    """One value for each gate."""
    return [{"gate": gate["name"], "value": value, "requests": None, "rest": None} for gate in GATES]


def baseline(f: Forge, it: Subject) -> None:
    f.event("cp19", it, "BASELINE", values=gate_values())


def deploy(f: Forge, it: Subject) -> None:
    """The next tier, from its intent to its bake."""
    deployment = f.state.deployments[it[1]]
    tier = deployment.next_tier or 100
    f.event("cp20", it, "TIER_INTENT", tier=tier)
    apply_tier(f, it)
    f.event("cp20", it, "BAKE_STARTED", tier=tier)


def apply_tier(f: Forge, it: Subject) -> None:
    """Every instance of the newest tier, and the tier."""
    deployment = f.state.deployments[it[1]]
    for name in deployment.cohorts[deployment.tier]:
        apply(f, it, name)
    f.event("cp20", it, "TIER_APPLIED", tier=deployment.tier)


def apply(f: Forge, it: Subject, name: str) -> None:
    tier = f.state.deployments[it[1]].tier_of[name]
    f.event("cp20", it, "INSTANCE_APPLIED", tier=tier, instance=name, tree=digest_of(2))


def sample_fields(f: Forge, it: Subject, n: int, value: str | None = "90", **changes: Any) -> dict[str, Any]:
    tier = f.state.deployments[it[1]].tier
    return {"tier": tier, "n": n, "values": gate_values(value), "trees": [], "raw": None, **changes}


def sample(f: Forge, it: Subject, n: int, value: str | None = "90") -> None:
    f.now += 15
    f.event("cp19", it, "SAMPLE", **sample_fields(f, it, n, value))


def verdict_fields(f: Forge, it: Subject, n: int, verdict: str = "pass", **changes: Any) -> dict[str, Any]:
    tier = f.state.deployments[it[1]].tier
    return {"tier": tier, "n": n, "verdict": verdict, "gate": None, "text": verdict, **changes}


def verdict(f: Forge, it: Subject, n: int, verdict: str = "pass") -> Subject:
    return f.event("cp19", it, "VERDICT", **verdict_fields(f, it, n, verdict))


def bake(f: Forge, it: Subject) -> None:
    """Two samples, and a pass."""
    sample(f, it, 1)
    sample(f, it, 2)
    verdict(f, it, 2)


def halt(f: Forge, it: Subject, cause: str = "gate") -> None:
    f.event("cp20", it, "HALTED", cause=cause, gate=None, evidence=None, text="")


def pause(f: Forge, it: Subject) -> None:
    f.event("cp20", it, "PAUSED", cause="hand", command=None, text="")


def restore(f: Forge, it: Subject) -> None:
    """Every instance that was touched."""
    deployment = f.state.deployments[it[1]]
    for name in sorted(deployment.intended - deployment.restored):
        f.event("cp20", it, "INSTANCE_RESTORED", instance=name, tree=digest_of(1), rebuilt=False, warning=None)


def complete(f: Forge, it: Subject) -> None:
    """From the start to the end."""
    baseline(f, it)
    f.event("cp20", it, "STARTED")
    while f.state.deployments[it[1]].next_tier is not None:
        deploy(f, it)
        bake(f, it)
        following = f.state.deployments[it[1]].next_tier
        if following is not None:
            tier = f.state.deployments[it[1]].tier
            f.event("cp20", it, "CANARY_PROMOTED", tier=tier, to=following)
    f.event("cp20", it, "COMPLETED")


def begin(policy: dict[str, Any] | None = None) -> Story:
    """Genesis, and a fleet in force."""
    story = Story()
    f = story.ledger
    story.mark("nothing")
    f.say("ada", "genesis", f.genesis_fields() if policy is None else f.genesis_fields(policy=policy))
    story.mark("genesis")
    f.enact("fleet", f.fleet_object(fleet_body()))
    story.mark("fleet")
    return story


def tell_main() -> Story:
    """A lease with both keys, from its intent to its end and back."""
    story = begin()
    f = story.ledger
    f.term()
    story.mark("term")
    it = f.it = f.lease()
    story.mark("lease")
    review = f.review("cp14", it)
    story.mark("reviewed")
    f.vote("ada", it, "approver")
    f.vote("cp14", it, "sentinel", review)
    story.mark("approved")
    f.claim(it)
    story.mark("claimed")
    baseline(f, it)
    f.event("cp20", it, "STARTED")
    story.mark("started")
    f.event("cp20", it, "TIER_INTENT", tier=25)
    story.mark("intended")
    apply(f, it, f.state.deployments[it[1]].cohorts[25][0])
    story.mark("applied")
    f.event("cp20", it, "TIER_APPLIED", tier=25)
    story.mark("tier")
    f.event("cp20", it, "BAKE_STARTED", tier=25)
    story.mark("baking")
    sample(f, it, 1)
    story.mark("sampled")
    sample(f, it, 2)
    verdict(f, it, 2)
    story.mark("healthy")
    f.event("cp20", it, "CANARY_PROMOTED", tier=25, to=100)
    story.mark("promoted")
    deploy(f, it)
    bake(f, it)
    story.mark("last")
    f.event("cp20", it, "COMPLETED")
    story.mark("completed")
    order = f.command("ben", it, "rollback")
    story.mark("ordered")
    f.event("cp20", it, "ROLLBACK_STARTED", cause="command", command=order[1])
    story.mark("rolling")
    restore(f, it)
    story.mark("restored")
    f.event("cp20", it, "ROLLED_BACK")
    story.mark("back")
    return story


def tell_manual() -> Story:
    """A lease that waits for people, under a policy that lets them skip a bake."""
    story = begin(make_policy(start="command", promotion="manual", skip_bake=True, reviews=["sentinel", "validator"]))
    f = story.ledger
    f.term()
    it = f.it = f.lease()
    f.approve(it)
    story.mark("approved")
    f.review("cp18", it)
    f.claim(it)
    baseline(f, it)
    story.mark("claimed")
    f.command("ada", it, "start")
    f.event("cp20", it, "STARTED")
    deploy(f, it)
    story.mark("baking")
    bake(f, it)
    story.mark("healthy")
    return story


def tell_glass() -> Story:
    """Broken glass: two people, and a review that is owed."""
    story = begin()
    f = story.ledger
    f.term()
    it = f.it = f.lease(rule="break_glass")
    story.mark("lease")
    f.vote("ada", it, "approver")
    story.mark("one")
    f.vote("ben", it, "approver")
    story.mark("approved")
    f.claim(it)
    story.mark("claimed")
    return story


def tell_small() -> Story:
    """Genesis alone, with as few people as can be."""
    story = Story()
    f = story.ledger
    story.mark("nothing")
    f.say("ada", "genesis", f.genesis_fields(trust=trust("ada", "cbo", thresholds={"governors": 1, "operators": 1})))
    story.mark("genesis")
    return story


STORIES = {"main": tell_main, "manual": tell_manual, "glass": tell_glass, "small": tell_small}
