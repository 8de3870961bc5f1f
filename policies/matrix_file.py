"""The capability matrix as YAML, for people. What is read, and how errors are told: `policies.yaml_file`."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from policies.matrix import CapabilityMatrix
from policies.notices import ALL, NOTICES, unknown_notices
from policies.yaml_file import Form, fault_at, load_model

FORM: Final = Form("bad_policy", "bad_policy", "the packaged capability_matrix.yaml explains each field")


def default_matrix_text() -> str:
    """The packaged capability matrix: deployment to production is switched off, and each field is explained."""
    return files("policies").joinpath("capability_matrix.yaml").read_text("utf-8")


def load_matrix(text: str, *, what: str = "policy") -> CapabilityMatrix:
    """Read a capability matrix from YAML of at most 262,144 characters. `what`: its name, such as that of its file.

    Raises: FormatError (`bad_policy`, `too_large`) with the line in its message and in `line`, counted from 1.
    """
    matrix = load_model(text, CapabilityMatrix, FORM, what=what)
    unknown = unknown_notices(matrix.deploy_production.notify)
    if unknown:
        place = ("deploy_production", "notify", unknown[0])
        hint = f"one of {', '.join(NOTICES)}; or {ALL}"
        raise fault_at(text, place, "there is no such notice", what=what, form=FORM, hint=hint)
    return matrix
