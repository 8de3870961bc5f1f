"""The count of distinct members against its definition, by trying every subset."""

from __future__ import annotations

from itertools import combinations

from authenticator import Token
from hypothesis import given
from hypothesis import strategies as st

from keys.openssh import PrivateKey, format_public, parse_blob
from keys.principals import Member, Role, Signer, TrustRoot, check_trust_root, count_distinct, count_quorum

LOG_KEY = bytes(PrivateKey(b"\xff" * 32).public.raw)
LINES = [format_public(PrivateKey(bytes([number]) * 32).public) for number in range(12)]
RAWS = [bytes(PrivateKey(bytes([number]) * 32).public.raw) for number in range(12)]
HUMAN_ROLES: list[Role] = ["approver", "governor", "operator"]


def largest(members: list[Member]) -> int:
    """The definition: the largest set whose members differ pairwise in principal, raw key and custodian."""
    for size in range(len(members), 0, -1):
        for some in combinations(members, size):
            if all(len({member[part] for member in some}) == size for part in range(3)):
                return size
    return 0


@st.composite
def roots(draw: st.DrawFn) -> TrustRoot:
    """A root with up to six humans, up to two keys each, who share up to four custodians."""
    keys = iter(LINES)
    principals = [
        {
            "id": f"p{number}",
            "kind": "human",
            "custodian": draw(st.sampled_from("abcd")),
            "roles": sorted(draw(st.sets(st.sampled_from(HUMAN_ROLES)))),
            "keys": [{"key": next(keys), "user_verification": False} for _ in range(draw(st.integers(1, 2)))],
        }
        for number in range(draw(st.integers(1, 6)))
    ]
    always = {"id": "root", "kind": "human", "custodian": "root", "roles": ["governor", "operator"]}
    token = format_public(parse_blob(Token().blob))
    return TrustRoot.from_json(
        {
            "law": 1,
            "principals": [*principals, {**always, "keys": [{"key": token, "user_verification": True}]}],
            "thresholds": {"governors": 1, "operators": 1},
            "expires": "2030-01-01T00:00:00Z",
            "compromised": [],
        }
    )


@given(roots(), st.sampled_from(HUMAN_ROLES), st.data())
def test_quorum_is_the_largest_set_that_differs_in_all_three(root: TrustRoot, role: Role, data: st.DataObject) -> None:
    check_trust_root(root, LOG_KEY)
    everyone = [
        Signer(principal.id, bytes(entry.public.raw)) for principal in root.principals for entry in principal.keys
    ]
    strangers = [Signer("p0", RAWS[11]), Signer("nobody", RAWS[0])]
    signed = data.draw(st.lists(st.sampled_from(everyone + strangers), max_size=12))
    members = [member for member in root.members(role) if Signer(member.principal, bytes(member.raw)) in signed]
    assert count_quorum(root, role, signed) == largest(members)


@given(roots(), st.sampled_from(HUMAN_ROLES))
def test_threshold_is_reachable_when_and_only_when_everyone_together_reaches_it(root: TrustRoot, role: Role) -> None:
    everyone = [Signer(principal.id, entry.public.raw) for principal in root.principals for entry in principal.keys]
    assert count_distinct(root.members(role)) == count_quorum(root, role, everyone) == largest(root.members(role))


@given(roots(), st.data())
def test_one_more_signature_never_lowers_the_count(root: TrustRoot, data: st.DataObject) -> None:
    everyone = [Signer(principal.id, entry.public.raw) for principal in root.principals for entry in principal.keys]
    some = data.draw(st.lists(st.sampled_from(everyone)))
    more = [*some, data.draw(st.sampled_from(everyone))]
    assert count_quorum(root, "governor", some) <= count_quorum(root, "governor", more)
