"""The vectors that every verifier has to refuse are those that the forger makes today, and leave out no rule.

`PYTHONPATH=.:tests/support python tests/support/reject_vectors.py` makes them again.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from documents import FORMAT
from reject_vectors import FOLDER, make_vectors, spell

ROOT = Path(__file__).parent.parent.parent
JUDGES = [
    *(ROOT / "policies" / "law").glob("*.py"),
    *(ROOT / "policies" / name for name in ("fold/deployment.py", "names.py", "fleet.py")),
    *(
        ROOT / "keys" / name
        for name in ("principals.py", "canonical.py", "ed25519.py", "sshsig.py", "openssh_public.py")
    ),
    *(ROOT / "ledger" / name for name in ("chain.py", "record.py", "statement.py", "envelope.py", "verified.py")),
]
RAISED = re.compile(
    r'(?:refuse\(|_bad\(|fail_step\(\s*\d+,|LawRefused\(|code=|super\(\).__init__\(|Ignored\()\s*"([a-z_]+)"', re.DOTALL
)
SECTIONS = re.compile(r"^## ([5-9])\. .*?(?=^## )", re.MULTILINE | re.DOTALL)

# Codes that no bytes lead to, and why.
NOT_FROM_BYTES = {
    "approval_expired at step 4": "the law refuses a late cosignature at its entry",
    "out_of_order": "an audit judges records at their place in an unbroken chain",
    "unknown_lease": "a claim on no lease is refused as `unknown_subject` before the rule is asked",
    "wrong_signer": "the key id finds the holder, and `by` must be that holder (`unknown_key`)",
    "bad_application": "a key line with one is a wrong shape (`bad_format`); a blob with one is nobody's",
}
NOT_OF_AN_AUDIT = {
    "other_ledger": "a host refuses it, by the newest term that it was shown",
}


def vectors() -> dict[str, dict[str, object]]:
    return {path.stem: json.loads(path.read_text("ascii")) for path in FOLDER.glob("*.json") if path.stem != "stories"}


def test_vectors_are_those_that_the_forger_makes() -> None:
    made = {name: spell(vector) for name, vector in make_vectors()}
    kept = {path.stem: path.read_text("ascii") for path in FOLDER.iterdir()}
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == []


def test_vectors_take_little_room() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 4_000_000


def test_each_code_of_the_document_has_a_vector() -> None:
    text = FORMAT.read_text("utf-8")
    rows = [line.rpartition("|")[0].rpartition("|")[2] for line in _tables(text)]
    codes = set(re.findall(r"`([a-z_]+)`", " ".join(rows)))
    # The rules about commands, and about trust roots, name their codes in sentences.
    prose = " ".join(match[0] for match in SECTIONS.finditer(text))
    codes |= set(re.findall(r"\(`([a-z_]+)`\)", prose)) | {
        "bad_trust_root",
        "bad_signature",
        "broken_chain",
        "bad_checkpoint",
    }
    assert len(codes) > 90
    have = {vector["code"] for vector in vectors().values()}
    assert codes - have - NOT_FROM_BYTES.keys() - NOT_OF_AN_AUDIT.keys() == set()


def test_each_code_that_a_judge_raises_has_a_vector() -> None:
    raised = {code for path in JUDGES for code in RAISED.findall(path.read_text("utf-8"))}
    assert len(raised) > 90
    have = {vector["code"] for vector in vectors().values()}
    assert raised - have - NOT_FROM_BYTES.keys() == set()
    # What is said to be out of reach is raised somewhere, and stays out of reach.
    assert {code for code in NOT_FROM_BYTES if " " not in code} - raised == set()
    assert NOT_FROM_BYTES.keys() & have == set()


def _tables(text: str) -> list[str]:
    """Rows of the tables that say how something is refused."""
    rows: list[str] = []
    inside = False
    for line in text.splitlines():
        inside = line.startswith("|") and (inside or line.rstrip().endswith("| refused as |"))
        if inside:
            rows.append(line)
    return rows
