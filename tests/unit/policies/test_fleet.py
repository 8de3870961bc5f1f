from __future__ import annotations

import pytest

from keys.errors import FormatError
from policies.fleet import Fleet


def fleet_of(*roots: str) -> Fleet:
    """A fleet with two targets and an instance in each root, by turns."""
    targets: dict[str, dict[str, list[dict[str, str]]]] = {"web": {"instances": []}, "api": {"instances": []}}
    for number, root in enumerate(roots):
        targets["api" if number % 2 else "web"]["instances"].append({"name": f"n{number}", "root": root})
    return Fleet.from_json({"targets": targets}, what="fleet")


def test_roots_of_two_targets_are_two_places() -> None:
    assert len(fleet_of("/srv/a", "/srv/b").targets) == 2


def test_root_of_another_target_is_refused() -> None:
    with pytest.raises(FormatError, match="share an address and a root"):
        fleet_of("/srv/a", "/srv/a")


@pytest.mark.parametrize(
    "root", ["/srv/a/", "/srv//a", "//srv/a", "/srv/./a", "/srv/b/../a", "/srv/a/.", "/..", "/", "/srv/a\n", "srv/a"]
)
def test_root_shared_under_another_spelling_is_refused(root: str) -> None:
    with pytest.raises(FormatError):
        fleet_of("/srv/a", root)
