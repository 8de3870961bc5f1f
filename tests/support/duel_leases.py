"""What is said of intents and leases until one is claimed; terms and messages."""

from __future__ import annotations

from typing import Any

from duel_moves import Draft, Player
from forging import digest_of, json_object, names

from keys.canonical import format_json
from keys.errors import CalyxError
from keys.values import fold_id, parse_time
from policies.fold.state import LeaseState
from policies.law.lease_terms import check_in_force
from policies.law.two_key import check_two_key


class Leases(Player):
    """Everyone, with what they say of leases."""

    def intent(self) -> Draft:
        self.number += 1
        name = f"INT-20260105-{self.number:03}"
        there = list(self.state.fleet.targets) if self.state.fleet is not None else []
        target = self.pick(*there * 12, "web", "api")
        return Draft(
            self.pick(*self.people("proposer")), "intent", {"id": name, "target": target, "what": "", "why": ""}
        )

    def lease(self) -> Draft | None:
        """A lease on an intent that has none."""
        state = self.state
        used = {fold_id(each.lease.intent) for each in state.leases.values()}
        known = {} if state.fleet is None or self.chance(0.03) else state.fleet.targets
        free = [
            intent
            for name, intent in state.intents.items()
            if name not in used and (not known or intent.target in known)
        ]
        if not free:
            return self.intent()
        intent, forge = self.pick(*free), self.duel.forge
        if state.fleet is None:
            return None
        target = state.fleet.targets.get(intent.target)
        there = [each.name for each in target.instances] if target else names(2)
        before, following = digest_of(self.pick(1, 1, 3)), digest_of(2)
        changes = [{"before": self.pick(before, before, "absent"), "after": following, "instances": there}]
        if len(there) > 1 and self.chance(0.3):
            cut = self.random.randrange(1, len(there))
            changes[0]["instances"] = there[:cut]
            changes.append({"before": self.pick("absent", digest_of(4)), "after": following, "instances": there[cut:]})
        elif self.chance(0.15):
            changes[0]["instances"] = there[:1]
        if self.chance(0.1):
            group = self.pick(*changes)
            group["instances"] = json_object(forge.objects.put(format_json(group["instances"])).to_json())
        glass = self.chance(0.35)
        window = self.pick(60, 120, 300, 600)
        number = int(intent.id.split("-")[2])
        fields = forge.lease_fields(
            number,
            intent=intent.id,
            target=intent.target,
            changes=changes,
            rule="break_glass" if glass else "two_key",
            approve_by=self.at(window, window, 900),
            execute_by=self.at(window, 900, 900),
            complete_by=self.at(3600, 900, 1200),
            not_before=self.at(0, 0, 0, 30),
        )
        terms = state.policy.deploy_production
        fields["start"] = self.pick(terms.start, terms.start, "command")
        fields["promotion"] = self.pick(terms.promotion, terms.promotion, "manual")
        fields["paths"] = self.pick(*[["app.py"]] * 16, *[["app.py", "static/a"]] * 4, ["other"])
        if self.chance(0.05):
            fields["tiers"] = self.pick([10, 25, 50, 100], [5, 100], [100])
        if self.chance(0.07):
            other: dict[str, list[Any]] = {"gates": [[]], "interval_s": [1, 86_400], "bake_s": [0, 15, 60]}
            name = self.pick(*other)
            fields[name] = self.pick(*other[name])
        if self.chance(0.05):
            fields["start"], fields["promotion"] = self.pick("auto", "command"), self.pick("auto", "manual")
        if self.chance(0.05):
            fields["hooks"] = {"drain": self.pick("drain", "other"), "undrain": None}
        return Draft(self.pick("cbo", "cbo", *self.people("proposer")), "lease", fields)

    def open_leases(self) -> list[LeaseState]:
        now = self.duel.forge.now
        every = [each for each in self.state.leases.values() if each.claim_seq is None and each.denied is None]
        return [
            each
            for each in every[-4:]
            if (parse_time(each.lease.execute_by) >= now and self._hopeful(each)) or self.chance(0.08)
        ]

    def _hopeful(self, lease: LeaseState) -> bool:
        try:
            check_in_force(self.state, lease)
        except CalyxError:
            return False
        return not any(note.review.verdict == "fail" for note in lease.reviews.values())

    def a_lease(self) -> LeaseState | None:
        every = list(self.state.leases.values())
        return self.pick(*(self.open_leases() or every), *every[-3:]) if every else None

    def on_lease(self) -> Draft | None:
        """What an open lease still needs."""
        found = self.open_leases()
        if not found or (len(found) < 3 and self.chance(0.15)):
            return self.lease()
        lease = self.pick(*found)
        subject = (lease.lease.id, lease.digest)
        try:
            check_two_key(self.state, lease.digest, self.duel.forge.now)
        except CalyxError:
            pass
        else:
            if self.chance(0.6) and self.state.term is not None:
                return self._claim_of(lease)
        if self.chance(0.06):
            return self.objection()
        told = {vote.signer.principal for vote in lease.ballot.standing()} if self.chance(0.95) else set()
        people = [each for each in self.people("approver") if each not in told]
        agents = [each for each in self.people("sentinel") + self.people("validator") if each not in told]
        if people and (self.chance(0.5) or not agents or lease.lease.rule == "break_glass"):
            return Draft(self.pick(*people), "cosignature", {"role": "approver", "review": None}, subject)
        if not agents:
            return self.objection()
        agent = self.pick(*agents)
        held = self.state.trust.find_principal(agent)
        role = self.pick(*(held.roles or ("sentinel",)))
        note = lease.reviews.get(agent)
        if note is not None and note.review.verdict == "fail" and self.chance(0.9):
            return self.objection()
        if note is None:
            verdict = self.pick(*["pass"] * 15, "fail")
            fields = {"role": role, "verdict": verdict, "summary": "", "findings": None}
            return Draft(agent, "review", fields, subject)
        return Draft(agent, "cosignature", {"role": note.review.role, "review": note.digest}, subject)

    def review(self) -> Draft | None:
        lease = self.a_lease()
        if lease is None:
            return None
        role, verdict = self.pick("sentinel", "validator"), self.pick("pass", "fail")
        fields = {"role": role, "verdict": verdict, "summary": "", "findings": None}
        return Draft(self.pick(*self.people(role)), "review", fields, (lease.lease.id, lease.digest))

    def cosign(self) -> Draft | None:
        lease = self.a_lease()
        if lease is None:
            return None
        role = self.pick("approver", "sentinel", "validator", "governor", "operator")
        reviews = [note.digest for note in lease.reviews.values()]
        review = self.pick(None, *reviews) if role == "approver" else self.pick(*reviews, None)
        return Draft(
            self.pick(*self.people(role)),
            "cosignature",
            {"role": role, "review": review},
            (lease.lease.id, lease.digest),
        )

    def objection(self) -> Draft | None:
        lease = self.a_lease()
        if lease is None:
            return None
        verb = self.pick("withdraw", "withdraw", "withdraw", "deny")
        role = self.pick("approver", "proposer" if verb == "deny" else "sentinel", "validator")
        return Draft(
            self.pick(*self.people(role)), "objection", {"verb": verb, "reason": ""}, (lease.lease.id, lease.digest)
        )

    def claim(self) -> Draft | None:
        lease = self.a_lease()
        return None if lease is None else self._claim_of(lease)

    def _claim_of(self, lease: LeaseState) -> Draft:
        subject = (lease.lease.id, lease.digest)
        by = self.state.term.by if self.state.term else "cp20"
        return Draft(by, "claim", self.duel.forge.claim_fields(subject), subject)

    def term(self) -> Draft:
        epoch = 1 if self.state.term is None else self.state.term.epoch + 1
        return Draft(self.pick(*self.of_kind("executor")), "term", {"epoch": epoch, "reason": ""})

    def message(self) -> Draft:
        known = [None, *self.state.messages][-3:]
        fields = {"type": self.pick("question", "answer"), "text": "", "reply_to": self.pick(None, *known)}
        to = self.pick(None, *self.people("approver"))
        return Draft(self.pick(*(each.id for each in self.state.trust.principals)), "message", {**fields, "to": to})
