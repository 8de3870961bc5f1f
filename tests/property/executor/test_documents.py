"""What is printed as YAML is read back as exactly the same value, whatever text is in it."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from terms import fleet, matrix

from executor.proposals.documents import format_document
from keys.openssh import format_public, new_private_key
from keys.principals import TrustRoot
from policies.fleet import Fleet
from policies.matrix import CapabilityMatrix
from policies.matrix_file import load_matrix
from policies.yaml_file import load_yaml

ODD = ["", "null", "~", "yes", "NO", "on", "0", "-1", "1e3", "0x1f", ".inf", "2030-01-01T00:00:00Z", "<<", "-_a"]
ODD += ["a:_b", "#", "'", '"', "\\", "---", "...", "%YAML", "&a", "*a", "!t", "|", ">"]
ODD += ["- a", "a: b", "\n", "\t", "\r", "\x85", "\u2028", "\ufeff", "\x00", "\x7f", " a", "a "]
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(ODD)
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**53 - 1) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@given(values)
def test_any_value_comes_back(value: Any) -> None:
    document = format_document(value)
    assert document.isascii()
    assert all(char.isprintable() or char == "\n" for char in document)
    assert load_yaml(document) == value


@given(values, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_comments_change_nothing(value: Any, comment: str) -> None:
    assert load_yaml(format_document(value, lambda _place, _value: comment)) == value


@given(
    st.integers(1, 10**6),
    st.dictionaries(
        st.sampled_from(["web", "null", "0", "on", "9a"]), st.sampled_from(["app.py", "static/", "é ü/", "- #"])
    ),
)
def test_policy_comes_back(bake_s: int, targets: dict[str, str]) -> None:
    allowed = {name: {"paths": [path]} for name, path in targets.items()}
    policy = CapabilityMatrix.from_json(matrix(bake_s=bake_s, targets=allowed))
    assert load_matrix(format_document(policy.to_json())) == policy


@given(st.integers(1, 5), st.dictionaries(st.sampled_from(["zone", "yes", "1"]), st.text(max_size=20), max_size=3))
def test_fleet_comes_back(count: int, labels: dict[str, str]) -> None:
    before = Fleet.from_json(fleet(count, labels=labels))
    assert Fleet.from_json(load_yaml(format_document(before.to_json()))) == before


@given(st.sampled_from(["ada", "null", "0", "1e5", "Yes"]), st.booleans(), st.integers(0, 2**53 - 1))
def test_trust_root_comes_back(name: str, human: bool, position: int) -> None:
    keys = [format_public(new_private_key(Random(seed).randbytes).public) for seed in (1, 2)]
    root = TrustRoot.from_json(
        {
            "law": 1,
            "principals": [
                {
                    "id": name,
                    "kind": "human" if human else "agent",
                    "custodian": name,
                    "roles": [],
                    "keys": [{"key": keys[0], "user_verification": human}],
                }
            ],
            "thresholds": {"governors": 1, "operators": 1},
            "expires": "2030-01-01T00:00:00Z",
            "compromised": [{"key": keys[1], "position": position}],
        }
    )
    assert TrustRoot.from_json(load_yaml(format_document(root.to_json()))) == root
