"""Forgeries of claims: whose keys they are, who else is at work, and what a claim says."""

from __future__ import annotations

from typing import Any

from forging import CAST, KEYS, TOKEN, Forge, Subject, key_line, names, person, policy, trust
from reject_claims import _claim
from reject_leases import A, C
from reject_registry import add, reject
from reject_stories import fleet_body

from ledger.envelope import Envelope, pae
from ledger.verified import namespace_of


@reject("approved", "quorum_unmet")
def claim_with_a_custodian_of_today(f: Forge) -> None:
    """Since they cosigned, a root gave both keys one custodian."""
    f.now += 1
    f.enact("trust", trust(principals=[person(n, custodian="cp14") if n == "ada" else person(n) for n in CAST]))
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)


@reject("term", "quorum_unmet")
def claim_with_a_custodian_of_then(f: Forge) -> None:
    """When they cosigned, both keys had one custodian; since then a root parted them."""
    it = f.lease(1)
    f.approve(it, agent="cp14b")
    f.now += 1
    f.enact("trust", trust(principals=[person(n, custodian="cp14b") if n == "cp14b" else person(n) for n in CAST]))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("term", "quorum_unmet")
def claim_with_a_proposer_respelled(f: Forge) -> None:
    """The proposer, in another spelling and with another key and custodian, is the one who approves."""
    it = f.lease(1, "dan")
    people = [person(n) for n in CAST if n != "dan"]
    other = {
        **person("dan"),
        "id": "DAN",
        "custodian": "other",
        "keys": [{"key": key_line("spare"), "user_verification": False}],
    }
    f.enact("trust", trust(principals=[*people, other]))
    body = f.body("cosignature", {**f.common("DAN"), "role": "approver", "review": None}, it)
    f.put(f.sign("dan", "cosignature", body, KEYS["spare"]))
    f.vote("cp14", it, "sentinel", f.review("cp14", it))
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "target_busy")
def claim_of_a_busy_target(f: Forge) -> None:
    """The target has a live deployment."""
    it = f.lease(2)
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("term", "target_busy")
def claim_of_other_instances_of_a_busy_target(f: Forge) -> None:
    """The target has a live deployment, at other instances."""
    first, rest = (
        f.lease(number, changes=[{"before": A, "after": C, "instances": instances}])
        for number, instances in ((1, names(1)), (2, names(4)[1:]))
    )
    f.approve(first)
    f.claim(first)
    f.approve(rest)
    f.forge("cp20", "claim", f.claim_fields(rest), rest)


@reject("started", "target_busy")
def claim_of_a_target_whose_deployment_has_started(f: Forge) -> None:
    """The target's live deployment has told something since its claim."""
    it = f.lease(2)
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "target_busy")
def claim_of_a_busy_place(f: Forge) -> None:
    """Another target has a live deployment where this one's instances are, under an older fleet."""
    body = fleet_body(4)
    body["targets"]["db"] = body["targets"].pop("web")
    f.enact("policy", policy(targets={"db": {"paths": ["app.py"]}}))
    f.enact("fleet", f.fleet_object(body))
    it = f.lease(2, target="db")
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("claimed", "review_overdue", "glass")
def claim_while_a_review_is_overdue(f: Forge) -> None:
    """A broken glass was not reviewed in time."""
    f.event("cp20", f.it, "ABORTED", cause="hand", text="")
    f.now += 86_401
    it = f.lease(2)
    f.approve(it)
    f.forge("cp20", "claim", f.claim_fields(it), it)


def _hardware(verified_then: bool, asked_now: bool, flags: int) -> Any:
    """Break-glass where the policy asks for a token that verified its user."""

    def prepare(f: Forge) -> Subject:
        glass = {"enabled": True, "max_validity_s": 900, "review_within_s": 60, "user_verification": True}
        f.enact("policy", policy(break_glass=glass))
        if verified_then:
            f.enact("trust", _asking(True))
        it = f.lease(1, rule="break_glass")
        body = f.body("cosignature", {**f.common("tok"), "role": "approver", "review": None}, it)
        sig = TOKEN.sign(namespace_of("cosignature"), pae(body), flags=flags)
        f.put(Envelope(body, f.sign("tok", "cosignature", body).keyid, sig))
        f.vote("ada", it, "approver")
        if asked_now != verified_then:
            f.enact("trust", _asking(asked_now))
        return it

    return prepare


def _asking(verification: bool) -> dict[str, Any]:
    keys = [{"key": key_line("tok"), "user_verification": verification}]
    return trust(principals=[person(n, keys=keys) if n == "tok" else person(n) for n in CAST])


_claim(
    "of_glass_without_verification",
    "The policy asks for user verification, the root does not.",
    "quorum_unmet",
    _hardware(False, False, 5),
)
_claim(
    "of_glass_verified_by_chance",
    "The root asks the token to verify its user since; the cosignature was not checked for it.",
    "quorum_unmet",
    _hardware(False, True, 5),
)
_claim(
    "of_glass_no_longer_verified",
    "The root no longer asks the token to verify its user.",
    "quorum_unmet",
    _hardware(True, False, 5),
)

# What a claim says.


def _says(name: str, what: str, code: str, change: Any) -> None:
    def doing(f: Forge) -> None:
        fields = f.claim_fields(f.it)
        f.forge("cp20", "claim", {**fields, **change(fields)}, f.it)

    add(f"claim_says_{name}", what, "approved", code, doing)


def _turned(cohorts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**cohort, "instances": cohort["instances"][::-1]} for cohort in cohorts]


_says("another_epoch", "Its epoch is the next one.", "fenced", lambda c: {"epoch": c["epoch"] + 1})
_says(
    "counted_turned",
    "The two that count stand in the other order.",
    "wrong_count",
    lambda c: {"counted": c["counted"][::-1]},
)
_says(
    "counted_another",
    "It counts an entry that is no cosignature.",
    "wrong_count",
    lambda c: {"counted": [1, c["counted"][1]]},
)
_says(
    "cohorts_turned", "A cohort stands in another order.", "wrong_cohorts", lambda c: {"cohorts": _turned(c["cohorts"])}
)
_says(
    "tiers_unmerged",
    "A tier that reaches no further stands by itself.",
    "wrong_cohorts",
    lambda c: {"cohorts": [{"tier": 5, "instances": []}, *c["cohorts"]]},
)
_says(
    "a_lower_tier",
    "A merged tier has the lower number.",
    "wrong_cohorts",
    lambda c: {"cohorts": [{**c["cohorts"][0], "tier": 5}, *c["cohorts"][1:]]},
)
_says("a_cohort_less", "The last cohort is missing.", "wrong_cohorts", lambda c: {"cohorts": c["cohorts"][:1]})
_says(
    "another_cohort",
    "The first instance of two tiers is exchanged.",
    "wrong_cohorts",
    lambda c: {
        "cohorts": [
            {**c["cohorts"][0], "instances": c["cohorts"][1]["instances"][:1]},
            {**c["cohorts"][1], "instances": [*c["cohorts"][0]["instances"], *c["cohorts"][1]["instances"][1:]]},
        ]
    },
)
_says(
    "seen_twice",
    "An instance was seen twice.",
    "bad_claim",
    lambda c: {"seen": [*c["seen"], {"tree": A, "instances": ["web-01"]}]},
)
_says(
    "seen_another_tree",
    "An instance was seen on another tree.",
    "base_moved",
    lambda c: {"seen": [{"tree": C, "instances": names(4)}]},
)
_says("seen_less", "An instance was not seen.", "base_moved", lambda c: {"seen": [{"tree": A, "instances": names(3)}]})
_says(
    "seen_more",
    "An instance was seen that the lease leaves alone.",
    "base_moved",
    lambda c: {"seen": [{"tree": A, "instances": names(5)}]},
)


@reject("approved", "fenced")
def claim_by_another_executor(f: Forge) -> None:
    """The newest term is another executor's."""
    f.forge("cp20b", "claim", {**f.claim_fields(f.it)}, f.it)


@reject("approved", "wrong_count")
def claim_counts_a_later_pair(f: Forge) -> None:
    """It counts a pair that was complete later."""
    later = f.vote("ben", f.it, "approver")
    votes = f.state.leases[f.it[1]].ballot.votes
    agent = next(vote.seq for vote in votes if vote.role == "sentinel")
    human = next(vote.seq for vote in votes if vote.digest == later[1])
    f.forge("cp20", "claim", f.claim_fields(f.it, counted=[agent, human]), f.it)


@reject("claimed", "fenced")
def deposed_executor_goes_on(f: Forge) -> None:
    """An executor tells of a deployment after another took over."""
    f.term("cp20b")
    f.forge("cp20", "event", {"epoch": 1, "detail": {"type": "STARTED"}}, f.it)


@reject("term", "quorum_unmet")
def claim_with_a_proposer_respelled_beside_them(f: Forge) -> None:
    """Since then the proposer, in another spelling, has the custodian of one of the two keys."""
    it = f.lease(1, "dan")
    f.approve(it)
    f.now += 1
    f.enact(
        "trust", trust(principals=[person(n, id="DAN", custodian="ada") if n == "dan" else person(n) for n in CAST])
    )
    f.forge("cp20", "claim", f.claim_fields(it), it)


@reject("approved", "review_failed")
def claim_with_a_failed_review_respelled(f: Forge) -> None:
    """Another sentinel's review failed; since then a root has that one in another spelling, with the same key."""
    f.review("cp14b", f.it, "fail")
    f.now += 1
    f.enact("trust", trust(principals=[person(n, id="CP14B") if n == "cp14b" else person(n) for n in CAST]))
    f.forge("cp20", "claim", f.claim_fields(f.it), f.it)
