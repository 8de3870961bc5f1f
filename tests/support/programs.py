"""Real programs and files that a test needs, and what happens where they are missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def require_program(name: str) -> str:
    """The path of the program `name`; otherwise the test is skipped, or fails under CALYX_REQUIRE_ALL=1."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name} is not installed")
    return path


def missing(what: str) -> NoReturn:
    """Skip the test and say what is missing; under CALYX_REQUIRE_ALL=1 fail, so that CI never skips in silence."""
    if os.environ.get("CALYX_REQUIRE_ALL") == "1":
        pytest.fail(f"{what}, and CALYX_REQUIRE_ALL=1 allows no skip", pytrace=False)
    pytest.skip(what)
