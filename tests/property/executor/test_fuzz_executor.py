"""What the executor reads of patches, trees, hosts, services and people: refused in our own words, or read as it is."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fuzzing import Parser, bounded, check, hostile, of_text, to_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executor.escape import escape
from executor.homes.home import Home
from executor.homes.settings import Settings
from executor.hosts.fence import load_fence
from executor.hosts.layout import Layout
from executor.hosts.process import load_running
from executor.metrics.counters import parse_counts
from executor.metrics.http import Unreadable, parse_object
from executor.metrics.prometheus import parse_result
from executor.metrics.tes import TesSource
from executor.notify.addresses import load_book
from executor.remote.address import format_address, parse_address
from executor.remote.http_source import parse_address as parse_url
from executor.remote.messages import (
    SaidDone,
    SaidFound,
    SaidHello,
    SaidObject,
    SaidRecords,
    SaidSubmitted,
    SaidTip,
    format_answer,
    format_refusal,
    format_request,
    parse_answer,
    parse_request,
)
from executor.signing.offline import (
    README,
    RENDERING,
    SIGNATURE,
    TO_SIGN,
    read_prepared,
    read_signature,
    write_prepared,
)
from executor.trees.patch_format import parse_patch
from executor.trees.reverse import _parse_directories
from executor.trees.tree import check_path, format_manifest, parse_manifest
from keys.canonical import format_json
from keys.errors import CalyxError, LawRefused
from keys.openssh import new_private_key
from keys.sshsig import NAMESPACE_APPROVAL, format_armor, sign
from ledger.statement import make_statement
from policies.fleet import Counters, Instance, Target, TesFile

HASH = "ab" * 32
CSV, JSONL = "tes.csv", "tes.jsonl"
MANIFEST = format_json(
    [
        "calyx-tree-v1",
        ["a", "dir"],
        ["a/app.py", "exec", HASH, 3],
        ["b", "link", "a/app.py"],
        ["c.txt", "file", HASH, 0],
    ]
)


def binary(kind: str, size: int, content: bytes) -> bytes:
    """One half of a binary patch, of at most 26 packed bytes. Source: git-diff(1), --binary."""
    packed = zlib.compress(content)
    return b"%s %d\n%c%s\n\n" % (kind.encode(), size, ord("A") + len(packed) - 1, base64.b85encode(packed, pad=True))


def patch(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


PATCHES = [
    patch(
        "diff --git a/app.py b/app.py", "index 1..2 100644", "--- a/app.py", "+++ b/app.py",
        "@@ -1,2 +1,2 @@ def f():", " same", "-old", "+new", "\\ No newline at end of file",
    ),
    patch(
        "diff --git a/new b/new", "new file mode 100755", "--- /dev/null", "+++ b/new", "@@ -0,0 +1 @@", "+x",
        "diff --git a/gone b/gone", "deleted file mode 100644", "--- a/gone", "+++ /dev/null", "@@ -1 +0,0 @@", "-x",
    ),
    patch(
        'diff --git "a/s\\303\\251 p" "b/s\\303\\251 p"', "similarity index 90%",
        'rename from "s\\303\\251 p"', "rename to other",
    ),
    patch("diff --git a/b.bin b/b.bin", "index 0..1 100644", "GIT binary patch")
    + binary("literal", 5, b"\0\1\2\3\4")
    + binary("delta", 6, b"\5\3\3abc"),
]  # fmt: skip
DIRECTORIES = b"Calyx-Directories: " + format_json({"make": ["a/b"], "remove": ["c"]}) + b"\ndiff --git a/x b/x\n"
KEY = new_private_key(lambda size: b"\7" * size)
COMMON = {
    "by": "ada",
    "head": {"hash": HASH, "size": 7},
    "ledger": "cd" * 32,
    "made_at": "2026-01-02T03:04:05Z",
    "nonce": "0" * 32,
}
STATEMENT = make_statement("cosignature", {**COMMON, "role": "approver", "review": None}, ("LEASE-20260105-9", HASH))
REQUESTS = [
    format_json(value)  # type: ignore[arg-type]  # the types of its values are not those of any JSON
    for value in (
        {"verb": "hello", "protocol": 1, "submits": True},
        {"verb": "tip"},
        {"verb": "read", "start": 0, "stop": 256},
        {"verb": "put", "sha256": HASH, "size": 12},
    )
]
ANSWERS = [format_refusal(LawRefused("quorum_unmet", "no", rule="two_key", hint="ask", entry=3)), b'{"ok":{}}']
ANSWERS += [b'{"ok":{"found":null}}', b'{"ok":{"count":3,"size":7}}', b'{"ok":{"receipts":[]}}']
MODELS: list[Any] = [SaidHello, SaidTip, SaidRecords, SaidFound, SaidObject, SaidSubmitted, SaidDone]


def counted(data: bytes) -> tuple[int, int]:
    try:
        return parse_counts(parse_object(data), Counters(url="http://127.0.0.1/metrics"))
    except Unreadable as error:
        raise CalyxError("unreadable", str(error)) from None


def answered(data: bytes) -> Decimal:
    try:
        return parse_result(parse_object(data))
    except Unreadable as error:
        raise CalyxError("unreadable", str(error)) from None


QUERIED = [
    b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1.5,"12e2"]}]}}',
    b'{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"1"]},"warnings":[]}',
]


PARSERS = [
    Parser("manifest", parse_manifest, lambda tree: format_manifest(tree.entries), [MANIFEST]),
    Parser("path", of_text(check_path), None, [b"a/b/c.py", "é/ü".encode(), b"x" * 255]),
    Parser("patch", parse_patch, None, PATCHES),
    Parser("ssh address", of_text(parse_address), None, [b"ssh://ada@host:22/srv/calyx", b"ssh://[::1]/x", b"ssh://h/x/"]),
    Parser("web address", of_text(parse_url), None, [b"https://host:443/log", b"http://[::1]/a/b"]),
    Parser("request", parse_request, format_request, REQUESTS),
    Parser("counters", counted, None, [b'{"requests": 120, "errors": 3, "more": [1.5, {}]}']),
    Parser("prometheus", answered, None, QUERIED),
]  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
@given(st.data())
def test_hostile_bytes_are_refused_or_the_only_spelling(parser: Parser, data: st.DataObject) -> None:
    check(parser, data.draw(hostile(parser.samples)))


@given(hostile([b"ssh://ada@host:22/srv/calyx", b"ssh://[::1]/x"]))
def test_hostile_address_is_refused_or_spelt_as_it_was(data: bytes) -> None:
    with bounded(), suppress(CalyxError):
        address = of_text(parse_address)(data)
        assert to_text(format_address)(address) in {data, data.removesuffix(b"/")}


@given(hostile(ANSWERS), st.sampled_from(MODELS))
def test_hostile_answer_is_refused_or_what_it_says(data: bytes, model: Any) -> None:
    with bounded(), suppress(CalyxError):
        assert format_answer(parse_answer(data, model)) == data


@given(hostile([*PATCHES]))
def test_hostile_patch_names_no_path_outside_a_tree(data: bytes) -> None:
    with bounded(), suppress(CalyxError):
        for change in parse_patch(data):
            for path in filter(None, (change.old, change.new)):
                assert not path.startswith("/")
                assert ".." not in path.split("/")
                assert ".git" not in path.lower().split("/")


def kept(root: Path) -> dict[str, tuple[Callable[[], Any], list[bytes]]]:
    """Files that a program of ours wrote, and others may have changed: by name, who reads it, and what it holds."""
    layout = Layout(root)
    home = Home(root)
    instance = Instance(name="a", root="/srv/a")
    target, lines = (Target(instances=(instance,), tes=TesFile(path=str(root / name))) for name in (CSV, JSONL))
    settings_file = Settings.from_json({"version": 1, "me": "ada", "keys": {"ada": "/k"}}).canonical()
    write_prepared(root / "prepared", STATEMENT, ["what it means"], None)
    to_sign = (root / "prepared" / TO_SIGN).read_bytes()
    armor = format_armor(sign(KEY, NAMESPACE_APPROVAL, to_sign)).encode()
    running = {"boot": "b", "pid": 1, "started": "1", "tree": HASH}
    fence = {"continues": [], "epoch": 3, "leaf": HASH, "ledger": HASH}
    tes = b'timestamp,mode,tes\n1789999980,safe,91.5\n2026-09-21T14:13:00+00:00,"a,b",96\n'
    tes_lines = b'{"timestamp": 1789999980, "tes": 91.5}\n{"tes": "96", "timestamp": "2026-09-21T14:13:00Z"}\n'
    return {
        "fence.json": (lambda: load_fence(root / "fence.json"), [format_json(fence)]),  # type: ignore[arg-type]
        ".calyx/process.json": (lambda: load_running(layout), [format_json(running)]),  # type: ignore[arg-type]
        "settings.json": (home.load_settings, [settings_file]),
        "notify.yaml": (lambda: load_book(root / "notify.yaml"), [b"oncall: ['json://h']\nteam:\n  - xml://x\n"]),
        CSV: (lambda: TesSource(lambda: 1_790_000_000, 300).read(target, None), [tes]),
        JSONL: (lambda: TesSource(lambda: 1_790_000_000, 300).read(lines, None), [tes_lines]),
        f"prepared/{TO_SIGN}": (lambda: read_prepared(root / "prepared"), [to_sign]),
        f"prepared/{SIGNATURE}": (lambda: read_signature(root / "prepared", STATEMENT), [armor]),
        "reverse": (lambda: _parse_directories((root / "reverse").read_bytes()), [DIRECTORIES]),
    }


FILES = [".calyx/process.json", "fence.json", "notify.yaml", "reverse", "settings.json", "tes.csv", "tes.jsonl",
         f"prepared/{SIGNATURE}", f"prepared/{TO_SIGN}"]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, dict[str, tuple[Callable[[], Any], list[bytes]]]]:
    (tmp_path / ".calyx").mkdir()
    readers = kept(tmp_path)
    assert sorted(readers) == sorted(FILES)
    return tmp_path, readers


@pytest.mark.parametrize("name", FILES)
@given(st.data())
@settings(max_examples=settings().max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_file_is_read_or_refused_in_our_words(
    place: tuple[Path, dict[str, tuple[Callable[[], Any], list[bytes]]]], name: str, data: st.DataObject
) -> None:
    root, readers = place
    read, samples = readers[name]
    path = root / name
    path.write_bytes(data.draw(hostile(samples)))
    path.chmod(0o600)
    with bounded():
        try:
            read()
        except CalyxError as error:
            assert "\n" not in error.message
            assert escape(error.message)


@pytest.mark.parametrize("name", FILES)
def test_samples_are_read(place: tuple[Path, dict[str, tuple[Callable[[], Any], list[bytes]]]], name: str) -> None:
    root, readers = place
    read, samples = readers[name]
    for sample in samples:
        (root / name).write_bytes(sample)
        (root / name).chmod(0o600)
        read()


@pytest.mark.parametrize("parser", PARSERS, ids=repr)
def test_samples_are_valid(parser: Parser) -> None:
    for sample in parser.samples:
        value = parser.parse(sample)
        assert parser.form is None or parser.form(value) == sample


def test_prepared_directory_holds_what_is_fuzzed(tmp_path: Path) -> None:
    write_prepared(tmp_path / "prepared", STATEMENT, ["what it means"], None)
    assert {each.name for each in (tmp_path / "prepared").iterdir()} == {TO_SIGN, RENDERING, README}
