"""docs/FLEET.md holds: its example is a fleet, its policy follows from the packaged one, and it names every field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from documents import CHECKOUT, read_part
from pydantic import BaseModel

from executor.commands.files import load_document
from policies.fleet import Counters, Fleet, Instance, Metrics, Probe, Process, Prometheus, Reload, Target, TesFile
from policies.matrix import CapabilityMatrix
from policies.matrix_file import default_matrix_text
from policies.yaml_file import load_yaml

FLEET: Final = CHECKOUT / "docs" / "FLEET.md"


def example(name: str, directory: Path) -> Any:
    """A part of the page, read as the file that a person makes of it."""
    path = directory / f"{name}.yaml"
    path.write_text(read_part(FLEET, name).removeprefix("```yaml\n").removesuffix("```"), "utf-8")
    return load_document(path)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `changes`, field by field."""
    merged = dict(base)
    for name, value in changes.items():
        assert name in base or isinstance(value, dict), f"the packaged policy has no field {name}"
        merged[name] = merge(merged[name], value) if isinstance(value, dict) and merged.get(name) else value
    return merged


def test_the_example_is_a_fleet(tmp_path: Path) -> None:
    fleet = Fleet.from_json(example("fleet", tmp_path))
    assert [instance.name for instance in fleet.targets["web"].instances] == ["web-1", "web-2"]


def test_the_changes_to_the_packaged_policy_enable_the_example(tmp_path: Path) -> None:
    packaged = load_yaml(default_matrix_text())
    assert isinstance(packaged, dict)
    policy = CapabilityMatrix.from_json(merge(packaged, example("policy", tmp_path)))
    assert policy.deployment_enabled()
    assert policy.deploy_production.targets.keys() == Fleet.from_json(example("fleet", tmp_path)).targets.keys()


@pytest.mark.parametrize(
    "model",
    [Target, TesFile, Instance, Process, Reload, Probe, Metrics, Counters, Prometheus],
    ids=lambda model: model.__name__,
)
def test_every_field_of_a_fleet_is_named(model: type[BaseModel]) -> None:
    named = set(re.findall(r"`([a-z_]+)(?:: [^`]*)?`", read_part(FLEET, "fields")))
    assert set(model.model_fields) <= named
