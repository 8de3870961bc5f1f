"""What a ledger's people and machines would say next, as its state suggests: mostly what leads on.

A draft says who says what about which subject. Nothing is signed here, and not every draft is lawful.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from duel import SPARES, TOKENS, Duel
from forging import Subject, after, digest_of, json_object, key_line, policy
from reject_stories import fleet_body
from terms import GATES

from keys.openssh import format_public
from keys.openssh_public import OpenSshKey
from keys.values import parse_time
from policies.fold.state import ProposalState


class Draft(NamedTuple):
    """What someone would say. `subject`: None for what is about itself."""

    who: str
    kind: str
    fields: dict[str, Any]
    subject: Subject | None = None


APPROVERS = ("ada", "ben", "eve", "dan", "tok")
AGENTS = ("cp14", "cp14b", "cp18")
MONITORED = {"BASELINE", "SAMPLE", "VERDICT"}


class Player:
    """Everyone of one duel."""

    def __init__(self, duel: Duel) -> None:
        self.duel, self.random = duel, duel.random
        self.number = 0
        # Who changes what is in force all the time lets no deployment come to its end.
        self.unrest = self.random.choice((0.01, 0.03, 0.1))

    @property
    def state(self) -> Any:
        return self.duel.forge.state

    def chance(self, odds: float) -> bool:
        return self.random.random() < odds

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def at(self, *seconds: int) -> str:
        """A time so far from now, one of these."""
        return after(self.duel.forge.now, self.pick(*seconds))

    def people(self, role: str) -> list[str]:
        """Who holds a role now."""
        found = [each.id for each in self.state.trust.principals if role in each.roles]
        return found or ["ada"]

    def of_kind(self, kind: str) -> list[str]:
        return [each.id for each in self.state.trust.principals if each.kind == kind] or ["cp20"]

    def genesis(self) -> Draft:
        changes: dict[str, Any] = {"policy": self.a_policy(calm=True)}
        trust = self.duel.forge.genesis_fields()["trust"]
        if self.chance(0.5):
            trust["thresholds"] = {"governors": self.pick(1, 2), "operators": self.pick(1, 2)}
        for each in trust["principals"]:
            if each["id"] == "tok" and self.chance(0.5):
                each["keys"][0]["user_verification"] = True
        if self.chance(0.3):
            trust["expires"] = self.at(3000, 20_000)
        if self.chance(0.1):
            changes["continues"] = {"ledger": digest_of(5), "head": {"size": 7, "hash": digest_of(6)}}
        return Draft("ada", "genesis", self.duel.forge.genesis_fields(trust=trust, **changes))

    def a_policy(self, *, calm: bool = False) -> dict[str, Any]:
        """A policy: that of the stories, with some of it changed."""
        changes: dict[str, Any] = {"targets": {"web": {"paths": ["app.py", "static/"]}, "api": {"paths": ["app.py"]}}}
        choices: dict[str, list[Any]] = {
            "tiers": [[25, 100], [50, 100], [100]],
            "bake_s": [15, 30],
            "retention_s": [60, 600, 0],
            "start": ["command"],
            "promotion": ["manual"],
            "skip_bake": [True],
            "reviews": [[], ["validator"], ["sentinel", "validator"]],
            "gates": [GATES[:1], [{**GATES[0], "limit": "11"}]],
            "interval_s": [10, 15],
            "break_glass": [
                {"enabled": on, "max_validity_s": longest, "review_within_s": within, "user_verification": verified}
                for on in (True, True, False) for longest in (300, 900) for within in (0, 60, 3600)
                for verified in (False, True)
            ],
            "hooks": [{}],
            "targets": [{"web": {"paths": ["app.py"]}}, {"api": {"paths": ["static/"]}}],
        }  # fmt: skip
        if not calm:
            choices["enabled"] = [False]
        for name in self.random.sample(sorted(choices), self.pick(0, 1, 2, 4)):
            changes[name] = self.pick(*choices[name])
        made = policy(**changes)
        if not calm and self.chance(0.1):
            made["phases"]["3"][self.pick("status", "capabilities")] = None
            phase = made["phases"]["3"]
            phase["status"], phase["capabilities"] = phase["status"] or "pending", phase["capabilities"] or []
        return made

    def a_fleet(self) -> dict[str, Any]:
        """A fleet: `web`, and now and then `api` where `web` was."""
        body = fleet_body(self.pick(1, 2, 4, 4))
        web = body["targets"]["web"]["instances"]
        shape = self.random.random()
        if shape < 0.3 and len(web) > 1:
            body["targets"]["api"] = {"instances": [web.pop()], "max_unavailable": 1}
        elif shape < 0.4:
            body["targets"] = {"api": body["targets"]["web"]}
        elif shape < 0.5:
            for each in web:
                each["name"] = each["name"].replace("web", "WEB")
        elif shape < 0.6:
            web[0]["hooks"] = {"drain": self.pick("drain", "drain", "other"), "undrain": None}
        elif shape < 0.65:
            web[0]["probe"] = {"url": None, "hook": self.pick("drain", "other"), "status": 200, "timeout_s": 5}
        elif shape < 0.8:
            web[0]["root"] = "/srv/moved"
        return json_object(self.duel.forge.fleet_object(body))

    def a_root(self) -> dict[str, Any]:
        """A trust root: that in force, changed in one to three places."""
        root: dict[str, Any] = self.state.trust.to_json()
        for _ in range(self.pick(1, 1, 1, 2, 3)):
            self._change_root(root)
        root["principals"] = [each for each in root["principals"] if each["keys"]]
        for each in root["principals"]:
            each["roles"] = sorted(set(each["roles"]))
        return root

    def _change_root(self, root: dict[str, Any]) -> None:
        one, spare = self.pick(*root["principals"]), format_public(self.pick(*SPARES).public)
        plain = {"key": spare, "user_verification": False}
        match self.random.randrange(12):
            case 0 | 1:
                one["keys"] = [plain]
            case 2:
                token = format_public(OpenSshKey(self.pick(*TOKENS).blob))
                one["keys"].append(self.pick(plain, {"key": token, "user_verification": self.chance(0.5)}))
            case 3 | 4 | 5:
                gone = one["keys"].pop()
                one["keys"] = one["keys"] or [plain]
                root["compromised"].append({"key": gone["key"], "position": self.random.randrange(self.state.size + 2)})
            case 6:
                one["custodian"] = self.pick(*root["principals"])["custodian"]
            case 7:
                one["id"] = self.pick(one["id"].upper(), one["id"].lower(), one["id"].title())
            case 8:
                root["principals"].remove(one)
            case 9:
                one["roles"] = list(self.pick(*root["principals"])["roles"])
            case 10:
                root["principals"].append(self._newcomer(one["kind"], spare))
            case _:
                self._change_terms(root)

    def _change_terms(self, root: dict[str, Any]) -> None:
        """What a root says besides who is in it."""
        match self.random.randrange(4):
            case 0:
                root["thresholds"] = {"governors": self.pick(1, 2, 3), "operators": self.pick(1, 2)}
            case 1:
                entries = [entry for each in root["principals"] for entry in each["keys"]]
                for entry in entries:
                    entry["user_verification"] ^= entry["key"].startswith("sk-")
            case 2:
                root["expires"] = self.at(-1, 0, 60, 5000)
            case _:
                for item in root["compromised"][:1]:
                    item["position"] = max(0, item["position"] + self.pick(-1, 1, -3))

    def _newcomer(self, kind: str, spare: str) -> dict[str, Any]:
        """Somebody new, or somebody who was there before."""
        name = self.pick("ada", "ben", "cp14", "cp18", "cbo", "spare")
        key = {"key": self.pick(key_line(name), spare), "user_verification": False}
        kind = self.pick("human", "agent", "agent", kind)
        roles = {"agent": ["sentinel", "validator"], "human": ["approver", "governor", "operator"]}.get(kind, [])
        told = {"id": self.pick(name, name.upper(), "new"), "kind": kind, "custodian": self.pick(name, "new")}
        return {**told, "keys": [key], "roles": roles}

    # Changes of what is in force.

    def _on_proposals(self, kinds: tuple[str, ...]) -> Draft | None:
        state = self.state
        base = {"trust": state.trust_digest, "policy": state.policy_digest, "fleet": state.fleet_digest}
        live = [p for p in state.proposals.values() if p.decided_seq is None and p.proposal.base == base[p.kind]]
        live = [p for p in live if parse_time(p.proposal.approve_by) >= self.duel.forge.now or self.chance(0.05)]
        if not live or self.chance(0.15):
            return self.propose(self.pick(*kinds))
        proposal = self.pick(*live)
        return self.vote_on(proposal)

    def propose(self, kind: str) -> Draft:
        role = "operator" if kind == "fleet" else "governor"
        content = {"trust": self.a_root, "policy": self.a_policy, "fleet": self.a_fleet}[kind]()
        fields = self.duel.forge.proposal(kind, content, approve_by=self.at(3600, 3600, 100, 0))
        return Draft(self.pick(*self.people(role)), kind, fields)

    def vote_on(self, proposal: ProposalState) -> Draft:
        role = "operator" if proposal.kind == "fleet" else "governor"
        subject = (proposal.kind, proposal.digest)
        known = self.people(role)
        if proposal.kind == "trust":
            known += [each.id for each in proposal.proposal.trust.principals if role in each.roles]  # type: ignore[union-attr]
        told = {vote.signer.principal for vote in proposal.ballot.standing()} if self.chance(0.95) else set()
        who = self.pick(*([each for each in known if each not in told] or known))
        if self.chance(0.07):
            return Draft(who, "objection", {"verb": "withdraw", "reason": ""}, subject)
        return Draft(who, "cosignature", {"role": role, "review": None}, subject)
