"""Ids and keys that a newer trust root spells otherwise: whoever signed stays who they are."""

from __future__ import annotations

import pytest
from forging import Forge
from refusal import refused
from reject_edges import _PLAIN, _in_capitals, _plain
from reject_stories import STORIES


@pytest.fixture
def forge() -> Forge:
    """With a lease that nobody cosigned."""
    return STORIES["main"]().moments["lease"].fork()


def test_agent_cosigns_on_its_own_review_under_another_spelling(forge: Forge) -> None:
    review = forge.review("cp14", forge.it)
    forge.enact("trust", _in_capitals("cp14"))
    forge.say("cp14", "cosignature", {"role": "sentinel", "review": review}, forge.it, by="CP14")
    assert [vote.signer.principal for vote in forge.state.leases[forge.it[1]].ballot.votes] == ["CP14"]


def test_token_cosigns_again_with_its_raw_key_as_a_plain_one(forge: Forge) -> None:
    forge.vote("tok", forge.it, "approver")
    forge.now += 1
    forge.enact("trust", _plain("tok", ["approver"]))
    with refused("already_cosigned"):
        forge.say("tok", "cosignature", {"role": "approver", "review": None}, forge.it, key=_PLAIN)


def test_cosignature_counts_whose_key_is_of_another_type_since(forge: Forge) -> None:
    forge.vote("tok", forge.it, "approver")
    forge.vote("cp14", forge.it, "sentinel", forge.review("cp14", forge.it))
    forge.enact("trust", _plain("tok", ["approver"]))
    forge.claim(forge.it)
    assert forge.it[1] in forge.state.deployments
