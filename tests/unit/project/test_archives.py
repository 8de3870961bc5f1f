"""What a wheel and an sdist hold: the whole of the four rooms, and never a key."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from programs import require_program

CHECKOUT = Path(__file__).parents[3]
ROOMS = ("keys", "ledger", "policies", "executor")
# One decoy for each shape in which a key, a secret or a ledger lies about in a working tree.
DECOYS = (
    "station.key",
    "log.skey",
    "id_ed25519",
    "id_ed25519.pub",
    "tls.pem",
    "ledger.db",
    "ledger.db-wal",
    "cache.sqlite3",
    "channels.env",
    ".env",
)
CODE = {".py", ".typed", ".yaml", ".json"}


def build(tree: Path, out: Path, *targets: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *targets, "--outdir", str(out), str(tree)],
        check=True,
        capture_output=True,
        timeout=120,
    )


def wheel_names(out: Path) -> set[str]:
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sdist_names(out: Path) -> set[str]:
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        return {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """Names in a wheel and in an sdist, both built from a copy of the checkout with decoys in every room."""
    tree = tmp_path_factory.mktemp("tree")
    out = tmp_path_factory.mktemp("archives")
    for source in CHECKOUT.iterdir():
        if source.is_file():
            shutil.copy2(source, tree / source.name)
        elif source.name in {*ROOMS, "docs", "scripts"}:
            shutil.copytree(source, tree / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    # Without this file nothing but the explicit patterns keeps a decoy out; an unpacked sdist may lack it.
    (tree / ".gitignore").unlink(missing_ok=True)
    for folder in (*ROOMS, "keys/nested/deeper", "docs", "scripts", "."):
        (tree / folder).mkdir(parents=True, exist_ok=True)
        for decoy in DECOYS:
            (tree / folder / decoy).write_text("decoy\n")
    build(tree, out, "--wheel", "--sdist")
    return wheel_names(out), sdist_names(out)


def code_files() -> set[str]:
    return {
        str(path.relative_to(CHECKOUT).as_posix())
        for room in ROOMS
        for path in (CHECKOUT / room).rglob("*")
        if path.suffix in CODE
    }


def test_wheel_and_sdist_hold_every_code_and_data_file_of_the_rooms(archives: tuple[set[str], set[str]]) -> None:
    expected = code_files()
    assert {f"{room}/py.typed" for room in ROOMS} <= expected
    for names in archives:
        assert expected - names == set()


def test_wheel_holds_the_four_rooms_and_nothing_else(archives: tuple[set[str], set[str]]) -> None:
    tops = {PurePosixPath(name).parts[0] for name in archives[0]}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOMS)


def test_key_lying_in_a_room_reaches_no_archive(archives: tuple[set[str], set[str]]) -> None:
    for names in archives:
        assert {name for name in names if PurePosixPath(name).name in DECOYS} == set()


def test_archives_carry_the_licence(archives: tuple[set[str], set[str]]) -> None:
    wheel, sdist = archives
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
    assert "LICENSE" in sdist


def test_data_file_of_a_room_is_in_the_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for room in ROOMS:
        (tree / room).mkdir(parents=True)
        (tree / room / "__init__.py").touch()
    (tree / "policies" / "capability_matrix.yaml").write_text("phases: []\n")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (CHECKOUT / name).exists():
            shutil.copy2(CHECKOUT / name, tree / name)
    build(tree, tmp_path / "out", "--wheel")
    assert "policies/capability_matrix.yaml" in wheel_names(tmp_path / "out")


def test_no_file_names_a_package_host() -> None:
    hosts = ("pypi" + ".org", "python" + "hosted.org", "index" + "-url", "find" + "-links")
    listed = subprocess.run(
        [require_program("git"), "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, listed):
        path = CHECKOUT / name
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            assert [host for host in hosts if host in text] == [], name


def test_every_dependency_is_locked_with_hashes() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = {
        "requirements.lock": project["project"]["dependencies"],
        "requirements-dev.lock": project["project"]["dependencies"] + project["dependency-groups"]["dev"],
    }
    for lock, dependencies in wanted.items():
        pinned = locked(CHECKOUT / lock)
        for dependency in dependencies:
            name = dependency.split(">=")[0].split("[")[0].strip().replace(".", "-")
            assert len(pinned[name]) >= 2, f"{lock}: {name} needs a wheel's and an sdist's hash at least"


def test_what_runs_is_pinned_as_it_was_tested() -> None:
    runtime = locked(CHECKOUT / "requirements.lock")
    tested = locked(CHECKOUT / "requirements-dev.lock")
    assert runtime.items() <= tested.items()


def locked(path: Path) -> dict[str, frozenset[str]]:
    """Hashes by package name, with the pinned version among them."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            name, _, version = line.partition("==")
            found[name] = {version.split()[0]}
        elif line.lstrip().startswith("--hash=sha256:"):
            found[name].add(line.strip(" \\"))
    return {name: frozenset(values) for name, values in found.items()}
