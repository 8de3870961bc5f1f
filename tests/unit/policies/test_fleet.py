from __future__ import annotations

from typing import Any

import pytest

from keys.errors import FormatError
from keys.openssh import format_public, new_private_key
from policies.fleet import Fleet, Instance


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


KEY = format_public(new_private_key(lambda size: b"\x07" * size).public)


def instance(**members: Any) -> Instance:
    return Instance.from_json({"name": "a", "root": "/srv/a", **members}, what="instance")


@pytest.mark.parametrize(
    "address", ["deploy@web-1", "deploy@web-1.example.net:2222", "_d.x-y@192.0.2.7", "d@h:1", "d@h:65535"]
)
def test_machine_has_an_address_and_its_key(address: str) -> None:
    assert instance(address=address, host_key=KEY).host_key == KEY


@pytest.mark.parametrize(
    "address",
    [
        "-oProxyCommand=id",
        "-o@web",
        "deploy@-web",
        "deploy@web.-x",
        "deploy@web:-1",
        "deploy@web:22",
        "deploy@web:022",
        "deploy@web:65536",
        "deploy@web:",
        "deploy@Web",
        "deploy@web\n",
        "deploy@web -x",
        "deploy@",
        "@web",
        "web",
        "Local",
        "",
        "a@b@c",
    ],
)
def test_address_that_another_program_reads_differently(address: str) -> None:
    with pytest.raises(FormatError):
        instance(address=address, host_key=KEY)


def test_host_key_stands_with_another_machine_and_only_there() -> None:
    for members in ({"host_key": KEY}, {"address": "deploy@web"}, {"address": "deploy@web", "host_key": None}):
        with pytest.raises(FormatError, match="host_key"):
            instance(**members)


@pytest.mark.parametrize("key", [f"{KEY} comment", f" {KEY}", "ssh-rsa AAAA", "", KEY.replace(" ", "  "), f"{KEY}\n"])
def test_host_key_in_another_form(key: str) -> None:
    with pytest.raises(FormatError):
        instance(address="deploy@web", host_key=key)


@pytest.mark.parametrize(
    "shared",
    [
        ["../x"],
        ["a/../b"],
        ["./a"],
        ["a//b"],
        ["a/"],
        ["/a"],
        [""],
        ["."],
        ["a", "a"],
        ["a/b", "a"],
        ["a", "a.b", "a/b"],
    ],
)
def test_shared_path_that_is_not_plain_or_not_alone(shared: list[str]) -> None:
    with pytest.raises(FormatError):
        instance(shared=shared)


def test_shared_paths_that_only_begin_alike() -> None:
    assert instance(shared=["a", "a.b", "ab/c", "b/a"]).shared == ("a", "a.b", "ab/c", "b/a")


@pytest.mark.parametrize(
    "members",
    [
        {"reload": {"kind": "command"}},
        {"reload": {"kind": "restart", "argv": ["true"]}},
        {"reload": {"kind": "command", "argv": ["true"]}, "process": {"argv": ["true"]}},
        {"reload": {"timeout_s": 0}},
        {"probe": {"url": "http://127.0.0.1/", "timeout_s": 0}},
        {"probe": {}},
        {"probe": {"hook": "check", "status": 204}},
    ],
)
def test_reload_or_probe_that_cannot_work(members: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        instance(**members)


@pytest.mark.parametrize("name", ["", "A=B", "1A", "A B", "A\n", "Ä", "A-B", "A\0"])
def test_name_that_no_environment_has(name: str) -> None:
    with pytest.raises(FormatError):
        instance(process={"argv": ["true"], "env": {name: "x"}})


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "a\rb", "\x1b[2J", "\x7f"])
def test_value_that_no_environment_has(value: str) -> None:
    with pytest.raises(FormatError):
        instance(process={"argv": ["true"], "env": {"A": value}})


def test_environment_with_a_tab_and_text() -> None:
    process = instance(process={"argv": ["true"], "env": {"_a1": "x\ty äß", "B": ""}}).process
    assert process is not None
    assert process.env == {"_a1": "x\ty äß", "B": ""}
