"""No hostile character reaches a terminal, whatever text it hides in."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.escape import escape, escape_lines

HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.characters(categories=["Cc", "Cf", "Mn", "Me", "Zs", "Zl", "Zp", "Cn", "Co"]),
        st.sampled_from("a b\u00ad\u115f\u2800\u3164\ufe0f\U000e0041\U000e0101"),
    )
)


@given(HOSTILE)
def test_only_characters_that_show_reach_the_terminal(text: str) -> None:
    for char in escape(text):
        assert unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
        assert unicodedata.bidirectional(char) not in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(HOSTILE)
def test_escaping_twice_changes_nothing_more(text: str) -> None:
    assert escape(escape(text)) == escape(text)


@given(HOSTILE, HOSTILE)
def test_no_two_lines_come_of_one(before: str, after: str) -> None:
    assert len((escape(before) + escape(after)).splitlines()) <= 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "<U+001B>[2Jgone"),
        ("safe\u202etxt.exe", "safe<U+202E>txt.exe"),
        ("no\u200bbody", "no<U+200B>body"),
        ("a\nb", "a<U+000A>b"),
        ("\x9b31m", "<U+009B>31m"),
        ("\u0301acute on our own text", "<U+0301>acute on our own text"),
        ("e\u0301t\u00e9", "e\u0301t\u00e9"),
        ("e" + "\u0301" * 4, "e\u0301\u0301<U+0301><U+0301>"),
        ("\U000e0041", "<U+E0041>"),
        ("\ud800", "<U+D800>"),
    ],
)
def test_each_trick_is_shown_as_its_code_point(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_an_endless_line_is_cut_and_counted() -> None:
    assert escape_lines("x" * 50 + "\n\ty\n", limit=10) == ["x" * 10 + " ... (40 more characters)", "    y"]
