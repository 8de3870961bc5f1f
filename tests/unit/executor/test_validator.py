from __future__ import annotations

import sys
from pathlib import Path

import pytest
from reviewing import NEW, OLD, Bench

from executor.agents.review import Reviewer
from executor.agents.sandbox import Sandbox
from executor.agents.syntax import MAX_BYTES, Kind, NotWellFormed, check, kind_of
from executor.agents.validator import Validator

GOOD: dict[Kind, list[bytes]] = {
    "python": [b"", b"x = 1\n", "# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"), b"x = '\\d'\n"],
    "json": [b"{}", b'{"a":[1,2.5,null],"b":{"a":1}}\n'],
    "yaml": [b"", b"a: 1\n", b"a: &x [1, 2]\nb: *x\n", b"--- 1\n--- 2\n", b"base: &b {x: 1}\nc:\n  <<: *b\n"],
    "toml": [b"", b"[a]\nb = 1\n"],
}
BAD: list[tuple[Kind, bytes, str]] = [
    ("python", b"def f(:\n", "line 1: "),
    ("python", b"x = 1\n\0", "null byte"),
    ("python", b"x = '\xe9'\n", ""),
    ("python", b"# coding: no-such-encoding\n", ""),
    ("python", b"return 1\n", "line 1: 'return' outside function"),
    ("python", b"def f():\nreturn 1\n", "line 2: "),
    ("python", b"x = " + b"9" * 5000, ""),
    ("json", b"", "line 1: "),
    ("json", b"{'a':1}", "line 1: "),
    ("json", b'{"a":1,}', "line 1: "),
    ("json", b'{"a":1,"b":2,"a":3}', "the key 'a' occurs twice"),
    ("json", b'[{"a":{"x":1,"x":1}}]', "the key 'x' occurs twice"),
    ("json", b"[NaN]", "NaN is not JSON"),
    ("json", b'\xef\xbb\xbf{"a":1}', ""),
    ("json", b'"\xff"', "byte 1 is not UTF-8"),
    ("json", b"[" * 100_000, "it is nested too deeply"),
    ("yaml", b"a: [1, 2\n", "line 2: "),
    ("yaml", b"a: 1\na: 2\n", "line 2: "),
    ("yaml", b"a: *nothing\n", "an alias stands for nothing"),
    ("yaml", b"a: &a [*a]\n", "an alias stands for nothing before it, or for what it is part of"),
    ("yaml", b"a: !!python/object/apply:os.system [id]\n", "line 1: "),
    ("yaml", b"a: \xff\n", "byte 3 is not UTF-8"),
    ("yaml", b"[" * 101, "it is nested too deeply"),
    ("yaml", b"a: 2001-99-99\n", ""),
    ("toml", b"a = \n", "line 1"),
    ("toml", b"a = 1\na = 2\n", "Cannot overwrite"),
    ("toml", b"a = '\xff'\n", "byte 5 is not UTF-8"),
    ("toml", b"a = " + b"[" * 100_000, "it is nested too deeply"),
]


def yaml_bomb(levels: int) -> bytes:
    """A few hundred bytes that stand for 9 ** levels values."""
    lines = [b"l0: &l0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9)}]".encode() for n in range(1, levels)]
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(("kind", "data"), [(kind, data) for kind, many in GOOD.items() for data in many])
def test_well_formed_content(kind: Kind, data: bytes) -> None:
    check(kind, data)


@pytest.mark.parametrize(("kind", "data", "text"), BAD)
def test_content_that_is_not_well_formed(kind: Kind, data: bytes, text: str) -> None:
    with pytest.raises(NotWellFormed) as caught:
        check(kind, data)
    assert text in str(caught.value)


def test_yaml_bomb_is_refused_before_it_goes_off() -> None:
    check("yaml", yaml_bomb(4))
    with pytest.raises(NotWellFormed, match="its aliases stand for more than 1000000 nodes"):
        check("yaml", yaml_bomb(12))


def test_yaml_merge_bomb_is_refused() -> None:
    keys = ",".join(f"k{n}: 1" for n in range(1000))
    merges = "\n".join(f"m{n}: {{<<: *base}}" for n in range(1000))
    with pytest.raises(NotWellFormed, match="its aliases stand for more"):
        check("yaml", f"base: &base {{{keys}}}\n{merges}\n".encode())


def test_python_is_compiled_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    check("python", f"open({str(mark)!r}, 'w')\n".encode())
    assert not mark.exists()


def test_kinds_by_ending() -> None:
    names = ["a.py", "A.PY", "b.json", "c.yml", "c.yaml", "d.toml", "e.txt", "py", ".py"]
    assert [kind_of(f"x/{name}") for name in names] == ["python", "python", "json", "yaml", "yaml", "toml"] + [None] * 3


def test_sandbox_answers_for_one_content_after_another() -> None:
    with Sandbox() as sandbox:
        assert sandbox.check("json", b"{}") is None
        assert sandbox.check("json", b"{") == "line 1: Expecting property name enclosed in double quotes"
        assert sandbox.check("yaml", yaml_bomb(12)) == "its aliases stand for more than 1000000 nodes"
        assert sandbox.check("python", b"x = 1\n" * 100_000) is None


# Well-formed is what the stand-in is asked about, but for two contents that do to it what a parser's defect might.
STAND_IN = """
import os, sys
while line := sys.stdin.buffer.readline():
    data = sys.stdin.buffer.read(int(line.split()[1]))
    if data == b"hang":
        sys.stdin.buffer.read()
    if data == b"crash":
        os.kill(os.getpid(), 9)
    print(flush=True)
"""


def test_parser_that_hangs_is_given_up_and_the_next_content_is_checked() -> None:
    with Sandbox(1.0, [sys.executable, "-I", "-S", "-c", STAND_IN]) as sandbox:
        assert sandbox.check("json", b"hang") == "the parser took too long"
        assert sandbox.check("json", b"{}") is None


def test_parser_that_does_not_read_is_given_up() -> None:
    # More than a pipe holds, and nobody takes it out.
    deaf = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(30)"]
    with Sandbox(1.0, deaf) as sandbox:
        assert sandbox.check("json", b"1" * 1_000_000) == "the parser took too long"


def test_parser_that_answers_before_it_was_asked_is_not_believed() -> None:
    eager = [sys.executable, "-I", "-S", "-c", "import time; print(flush=True); time.sleep(30)"]
    with Sandbox(20.0, eager) as sandbox:
        assert sandbox.check("json", b"1" * 1_000_000) == "the parser crashed"


def test_parser_that_crashes_is_the_contents_fault() -> None:
    with Sandbox(60, [sys.executable, "-I", "-S", "-c", STAND_IN]) as sandbox:
        assert sandbox.check("json", b"crash") == "the parser crashed"
        assert sandbox.check("json", b"{}") is None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def review(bench: Bench, subject: tuple[str, str]) -> tuple[str, list[str]]:
    station = bench.station
    agent = Reviewer(
        "validator",
        Validator(station.objects),
        station.registrar,
        station.signer("cp18"),
        station.objects,
        monotonic=bench.monotonic,
        log=bench.log,
    )
    agent.act(station.state)
    note = bench.lease(subject).reviews["cp18"]
    assert (bench.votes(subject) == [("cp18", "validator")]) == (note.review.verdict == "pass")
    return note.review.verdict, [finding["text"] for finding in bench.report(subject, "cp18")["findings"]]


def test_lease_of_well_formed_files_is_cosigned(bench: Bench) -> None:
    files = {"static/a.json": b"{}", "static/b.yaml": b"a: 1\n", "static/c.toml": b"a = 1\n"}
    subject = bench.propose(new={**NEW, **files})
    assert review(bench, subject) == ("pass", [])
    summary = bench.lease(subject).reviews["cp18"].review.summary
    assert summary == "changed files: 5; of these Python, JSON, YAML or TOML, and well-formed: 4"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("app.py", b"def broken(\n"),
        ("static/a.json", b'{"a":1,"a":2}'),
        ("static/a.yaml", yaml_bomb(12)),
        ("static/a.yml", b"a: [\n"),
        ("static/a.toml", b"a =\n"),
    ],
)
def test_lease_with_a_file_that_is_not_well_formed(bench: Bench, path: str, content: bytes) -> None:
    verdict, texts = review(bench, bench.propose(new={**NEW, path: content}))
    assert verdict == "fail"
    assert len(texts) == 1
    assert texts[0].startswith(f"{path}: ")


def test_broken_file_that_does_not_change_is_not_this_leases(bench: Bench) -> None:
    broken = {"static/old.json": b"{"}
    assert review(bench, bench.propose({**OLD, **broken}, {**NEW, **broken})) == ("pass", [])


def test_file_that_is_too_large_to_check_fails(bench: Bench) -> None:
    large = b"#" * (MAX_BYTES["yaml"] + 1)
    verdict, texts = review(bench, bench.propose(new={**NEW, "static/a.yaml": large}))
    assert (verdict, texts) == ("fail", ["static/a.yaml is over the 1048576 bytes that are checked"])


def test_file_swapped_in_the_store_is_not_what_is_validated(bench: Bench) -> None:
    subject = bench.propose()
    ref = bench.station.objects.put(NEW["app.py"])
    stored = bench.station.root / "objects" / ref.sha256[:2] / ref.sha256[2:]
    stored.chmod(0o600)
    stored.write_bytes(b"print('six')\n")
    assert review(bench, subject)[0] == "fail"
    assert bench.codes(subject, "cp18") == ["object_mismatch"]
