"""A key that both keys of a lease counted on is revoked as compromised: what runs halts and asks a person."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetsim import Simulation
from governing import principal, propose_policy, propose_trust, revoke
from station import PEOPLE, Station, fleet, matrix, tree_digest

from executor.views.waiting import list_waiting
from keys.errors import Exit, LawRefused
from keys.openssh import format_public, new_private_key
from policies.auditing.audit import audit
from policies.fold.deployment import Phase

NAMES = ["web-01", "web-02", "web-03", "web-04"]
OLD = tree_digest("v1")


class Walk(Simulation):
    """A simulation with one lease under both keys, and what happens once while its first tier bakes."""

    lease: tuple[str, str]
    new: str
    revoked: int | None = None
    idle: int = 0

    def run(self, who: str = "cp20") -> Exit:
        self.idle = 0
        return super().run(who)

    def wait(self, seconds: float) -> bool:
        """As ever; but an executor that looked at a halted deployment twenty times, and did nothing, is stopped."""
        halted = self.lease[1] in self.station.state.deployments and self.phase is Phase.HALTED
        self.idle = self.idle + bool(seconds) if halted else 0
        return self.idle > 20 or super().wait(seconds)

    @property
    def counted(self) -> tuple[int, ...]:
        return self.station.state.deployments[self.lease[1]].counted

    @property
    def phase(self) -> Phase:
        return self.station.state.deployments[self.lease[1]].phase

    def trees(self) -> set[str]:
        return {place.current for place in self.hosts.places.values()}

    def revoke_in_bake(self, who: str, late: int = 0) -> None:
        """While the first tier bakes, ben revokes `who`'s key from its counted cosignature on, or `late` entries on."""
        monitor = self.monitor

        def speak() -> None:
            deployment = self.station.state.deployments.get(self.lease[1])
            if self.revoked is None and deployment is not None and deployment.phase is Phase.BAKING:
                votes = self.station.state.leases[self.lease[1]].ballot.votes
                seq = next(v.seq for v in votes if v.signer.principal == who and v.seq in deployment.counted)
                self.revoked = seq
                self.change_key(who, seq + late)
            monitor()

        self.monitor = speak  # type: ignore[method-assign]  # a person beside the monitor

    def change_key(self, who: str, position: int) -> None:
        if who == "ada":
            revoke(self.station, "ada", position)
            return
        root = self.station.trust()
        old = principal(root, who)["keys"][0]["key"]
        self.station.keys[who] = new_private_key(self.station.random)
        principal(root, who)["keys"] = [
            {"key": format_public(self.station.keys[who].public), "user_verification": False}
        ]
        root["compromised"] = [{"key": old, "position": position}]
        proposal = propose_trust(self.station, root, who="ben")
        self.station.vote("ben", ("trust", proposal.digest), "governor")


def begin(root: Path, **terms: object) -> Walk:
    station = Station(root, policy=matrix(**{"tiers": [50, 100], "bake_s": 2, "interval_s": 1, **terms}))
    station.genesis()
    station.enact_fleet(fleet(len(NAMES)))
    walk = Walk(station)
    walk.serve(OLD)
    walk.lease, walk.new = walk.ask(OLD, NAMES)
    return walk


@pytest.mark.parametrize("who", ["ada", "cp14"])
def test_running_deployment_halts_waits_for_a_person_and_goes_back_at_their_word(tmp_path: Path, who: str) -> None:
    walk = begin(tmp_path)
    walk.revoke_in_bake(who)
    assert walk.run() is Exit.DONE
    state = walk.station.state
    assert walk.phase is Phase.HALTED
    assert state.deployments[walk.lease[1]].halted_cause == "tainted"
    # It stays where it was, half on the new tree: nobody but a person decides.
    assert walk.trees() == {OLD, walk.new}
    (waiting,) = [each for each in list_waiting(state, "ben", walk.station.clock.now) if each.name == walk.lease[0]]
    assert waiting.command == f"calyx rollback {walk.lease[0]}"
    assert "compromised" in waiting.text
    with pytest.raises(LawRefused) as refusal:
        walk.station.command("ben", walk.lease, "resume")
    assert refusal.value.fields["rule"] == "command"
    walk.station.command("ben", walk.lease, "rollback")
    assert walk.run() is Exit.ROLLED_BACK
    assert walk.trees() == {OLD}
    report = audit(walk.station.store, walk.station.objects, remembered=None)
    assert report.ok, report.findings
    tainted = [note for note in report.notes if note.startswith("tainted: ")]
    assert any(f"{walk.lease[0]}, claimed in entry" in note and f"entry {walk.revoked}," in note for note in tainted)


def test_another_run_of_the_executor_waits_as_well(tmp_path: Path) -> None:
    walk = begin(tmp_path)
    walk.revoke_in_bake("ada")
    walk.run()
    for _ in range(2):
        walk.run("cp20b")
        assert walk.phase is Phase.HALTED
        assert walk.trees() == {OLD, walk.new}


def test_cosignature_from_before_the_position_goes_on_counting_for_what_is_claimed(tmp_path: Path) -> None:
    walk = begin(tmp_path)
    walk.revoke_in_bake("ada", late=1)
    assert walk.run() is Exit.DONE
    assert walk.revoked is not None
    assert walk.phase is Phase.COMPLETED
    assert walk.trees() == {walk.new}


def test_claimed_and_not_started_ends_as_aborted(tmp_path: Path) -> None:
    walk = begin(tmp_path, start="command")
    walk.station.take_term()
    walk.station.claim(walk.lease)
    walk.change_key("ada", walk.counted[0])
    walk.run()
    deployment = walk.station.state.deployments[walk.lease[1]]
    assert deployment.phase is Phase.ABORTED
    assert walk.trees() == {OLD}


def test_unclaimed_lease_needs_another_approval(tmp_path: Path) -> None:
    walk = begin(tmp_path)
    (vote, *_) = walk.station.state.leases[walk.lease[1]].ballot.votes
    walk.change_key("ada", vote.seq)
    walk.run()
    assert not walk.station.state.deployments
    walk.station.vote("ada", walk.lease, "approver")
    assert walk.run() is Exit.DONE
    assert walk.phase is Phase.COMPLETED


def test_rollout_that_is_complete_stays_and_is_listed(tmp_path: Path) -> None:
    walk = begin(tmp_path)
    assert walk.run() is Exit.DONE
    walk.change_key("ada", walk.counted[0])
    assert walk.run() is Exit.DONE
    assert walk.trees() == {walk.new}
    notes = audit(walk.station.store, walk.station.objects, remembered=None).notes
    assert any(note.startswith(f"tainted: {walk.lease[0]}") for note in notes)


def test_stolen_vote_that_no_quorum_counted_taints_nothing(tmp_path: Path) -> None:
    station = Station(tmp_path, thresholds=(2, 2), people={**PEOPLE, "cat": ("human", "cat", ["governor"])})
    station.genesis()
    station.enact_fleet(voters=("ada", "ben"))
    policy = propose_policy(station)
    stolen = station.vote("ada", ("policy", policy.digest), "governor")
    revoke(station, "ada", stolen.seq)
    for voter in ("ben", "cat"):
        station.vote(voter, ("policy", policy.digest), "governor")
    assert station.state.policy_digest == policy.digest
    assert stolen.seq not in station.state.proposals[policy.digest].counted
    report = audit(station.store, station.objects, remembered=None)
    assert not [note for note in report.notes if note.startswith("tainted: the policy")]
