"""What a user would pick instead, on the same machine in the same run, each with what it does not do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from bench_append import Bare
from bench_measure import Row, Spread, installed, missing, timed, warmed

PAYLOAD = b"x" * 700
"""As long as a common statement."""


def sqlite_row(root: Path, runs: int) -> Row:
    """A table of its own."""
    bare = Bare(root / "alone.db")
    try:
        seconds = [timed(lambda: bare.append(PAYLOAD)) for _ in range(runs)]
    finally:
        bare.close()
    return Row(
        "other-sqlite",
        "a bare SQLite table, WAL and FULL: one row a commit",
        "ms",
        _ms(seconds),
        note="no signature, no chain, no proof, no rule: whoever can write can rewrite",
    )


def git_row(root: Path, runs: int) -> Row:
    """Commits signed with an SSH key, and their check."""
    what = "git: a commit signed with an SSH key, synced"
    absent = missing("git", "ssh-keygen")
    if absent:
        return Row("other-git", what, "ms", None, note=absent)
    place = root / "git"
    place.mkdir()
    environment = {**warmed(place), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    key, signers = place / "key", place / "signers"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)], check=True, capture_output=True
    )
    signers.write_text(f"ada@station.example {key.with_suffix('.pub').read_text()}")
    settings = {
        "gpg.format": "ssh",
        "user.signingkey": str(key),
        "user.name": "ada",
        "user.email": "ada@station.example",
        "gpg.ssh.allowedSignersFile": str(signers),
        "core.fsync": "all",
        "gc.auto": "0",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *options, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"git {arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    git("init", "-q")
    message = PAYLOAD.decode()
    commits = [timed(lambda: git("commit", "-q", "--allow-empty", "-S", "-m", message)) for _ in range(runs)]
    names = git("rev-list", "HEAD").split()
    alone = [timed(lambda: git("verify-commit", name)) for name in names]  # noqa: B023  # called at once
    together = timed(lambda: git("verify-commit", *names)) / len(names)
    return Row(
        "other-git",
        what,
        "ms",
        _ms(commits),
        note="one person's signature over history and message; git asks ssh-keygen for each, and knows no rule",
        detail={
            "version": git("version").strip(),
            "verify_commit_ms": _ms(alone).to_json(),
            "verify_commit_of_many_ms_each": together * 1e3,
        },
    )


def pymerkle_row(root: Path, runs: int) -> Row:
    """A Merkle tree kept in SQLite."""
    what = "pymerkle on SQLite: append one entry"
    found = installed("pymerkle")
    if found is None:
        return Row("other-pymerkle", what, "ms", None, note="not installed")
    module = import_module("pymerkle")
    tree = module.SqliteTree(str(root / "pymerkle.db"))
    with contextlib.closing(tree.con) if hasattr(tree, "con") else contextlib.nullcontext():
        for _ in range(runs * 4):
            tree.append_entry(PAYLOAD)
        seconds = [timed(lambda: tree.append_entry(PAYLOAD)) for _ in range(runs)]
        size = tree.get_size()
        proofs = _times(runs, lambda number: tree.prove_inclusion(1 + number % size, size))
    return Row(
        "other-pymerkle",
        what,
        "ms",
        _ms(seconds),
        note="a tree and proofs; no signature, no identity, no rule",
        detail={"version": found, "entries": size, "prove_inclusion_ms": _ms(proofs).to_json()},
    )


def dsse_row(runs: int) -> Row:
    """The same envelope as ours, made and checked by another library."""
    what = "securesystemslib: one DSSE envelope checked, Ed25519"
    found = installed("securesystemslib")
    if found is None:
        return Row("other-dsse", what, "us", None, note="not installed")
    dsse, signers = import_module("securesystemslib.dsse"), import_module("securesystemslib.signer")
    signer = signers.CryptoSigner.generate_ed25519()
    made = [dsse.Envelope(PAYLOAD, "application/vnd.in-toto+json", {}) for _ in range(runs)]
    signing = _times(runs, lambda number: made[number].sign(signer))
    checking = _times(runs, lambda number: made[number].verify([signer.public_key], 1))
    return Row(
        "other-dsse",
        what,
        "us",
        Spread.of([each * 1e6 for each in checking]),
        note="a signature over one statement; no order, no store, no rule",
        detail={"version": found, "sign_us": Spread.of([each * 1e6 for each in signing]).to_json()},
    )


def _times(runs: int, action: Callable[[int], object]) -> list[float]:
    seconds = []
    for number in range(runs):
        start = time.perf_counter()
        action(number)
        seconds.append(time.perf_counter() - start)
    return seconds


def _ms(seconds: Sequence[float]) -> Spread:
    return Spread.of([each * 1e3 for each in seconds])
