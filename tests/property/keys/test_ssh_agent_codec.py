"""The agent protocol's pairs: what is formatted is parsed back, and no bytes at all lead past an error of ours."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from keys.errors import CalyxError
from keys.ssh_agent import (
    LENGTH_SIZE,
    Identity,
    SignRequest,
    SshAgent,
    format_frame,
    format_identities,
    format_sign_request,
    format_signature,
    parse_identities,
    parse_length,
    parse_sign_request,
    parse_signature,
)

IDENTITIES = st.lists(st.builds(Identity, st.binary(max_size=200), st.binary(max_size=40)), max_size=20)
REQUESTS = st.builds(SignRequest, st.binary(max_size=200), st.binary(max_size=400))
# Nearly right is where a parser goes wrong: an answer's type, then anything.
ANSWERS = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda kind, rest: bytes([kind]) + rest, st.sampled_from([5, 11, 12, 13, 14]), st.binary(max_size=200)),
    st.builds(lambda rows, cut: format_identities(rows)[:cut], IDENTITIES, st.integers(0, 400)),
)


@given(IDENTITIES)
def test_list_of_keys_is_parsed_back(identities: list[Identity]) -> None:
    assert parse_identities(format_identities(identities)) == identities


@given(REQUESTS)
def test_request_to_sign_is_parsed_back(request: SignRequest) -> None:
    assert parse_sign_request(format_sign_request(request)) == request


@given(st.binary(max_size=400))
def test_signature_is_parsed_back(signature: bytes) -> None:
    assert parse_signature(format_signature(signature)) == signature


@given(st.binary(min_size=1, max_size=400))
def test_frame_says_the_length_of_what_follows(message: bytes) -> None:
    frame = format_frame(message)
    assert parse_length(frame[:LENGTH_SIZE]) == len(message) == len(frame) - LENGTH_SIZE


@given(ANSWERS)
def test_list_that_is_taken_has_one_form_only(answer: bytes) -> None:
    with suppress(CalyxError):
        assert format_identities(parse_identities(answer)) == answer


@given(ANSWERS)
def test_signature_that_is_taken_has_one_form_only(answer: bytes) -> None:
    with suppress(CalyxError):
        assert format_signature(parse_signature(answer)) == answer


@given(ANSWERS)
def test_request_that_is_taken_has_one_form_only(answer: bytes) -> None:
    with suppress(CalyxError):
        assert format_sign_request(parse_sign_request(answer)) == answer


@given(ANSWERS)
def test_no_answer_ends_in_a_traceback(answer: bytes) -> None:
    with suppress(CalyxError):
        assert len(SshAgent(lambda _: answer).list_keys()) <= len(answer)
