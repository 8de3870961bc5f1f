"""README.md holds: the two files that a newcomer makes from it are a policy and a fleet, and belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from documents import CHECKOUT, read_part

from executor.commands.files import load_document
from policies.fleet import Fleet
from policies.matrix import CapabilityMatrix

README: Final = CHECKOUT / "README.md"


def made_by(part: str, directory: Path) -> Any:
    """The file that a part of the page makes when it is pasted into a shell."""
    text = read_part(README, part)
    body = text[text.index("END") :].partition("\n")[2].partition("\nEND\n")[0]
    path = directory / f"{part}.yaml"
    path.write_text(body.replace("$HOME", str(directory)), "utf-8")
    return load_document(path)


def test_the_two_files_deploy_together_and_ask_for_a_look(tmp_path: Path) -> None:
    policy = CapabilityMatrix.from_json(made_by("policy", tmp_path))
    fleet = Fleet.from_json(made_by("fleet", tmp_path))
    assert policy.deployment_enabled()
    assert policy.deploy_production.look
    assert policy.deploy_production.targets.keys() == fleet.targets.keys()


def test_every_gate_of_the_policy_has_something_to_measure(tmp_path: Path) -> None:
    policy = CapabilityMatrix.from_json(made_by("policy", tmp_path))
    fleet = Fleet.from_json(made_by("fleet", tmp_path))
    assert {gate.source for gate in policy.deploy_production.gates} <= {"cpu", "memory"}
    assert all(instance.process for target in fleet.targets.values() for instance in target.instances)
