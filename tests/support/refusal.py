"""Expecting a refusal by its code, so that a test fails when the right thing is refused for the wrong reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from keys.errors import CalyxError


@contextmanager
def refused(code: str, **fields: object) -> Iterator[pytest.ExceptionInfo[CalyxError]]:
    """What is done inside must be refused with this code, and with these fields in the error; gives the refusal."""
    with pytest.raises(CalyxError) as caught:
        yield caught
    assert caught.value.code == code, f"refused as {caught.value}"
    for name, value in fields.items():
        assert caught.value.fields.get(name) == value, f"{name} is {caught.value.fields.get(name)!r}"
