"""Edge cases of Ed25519 that others published: key and signature are judged together, as at enrolment and use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keys.ed25519 import check_public, verify
from keys.errors import SignatureRefused


def accepts(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        verify(check_public(public), message, signature)
    except SignatureRefused:
        return False
    return True


def load(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_all_151_wycheproof_verdicts_agree(vectors: Path) -> None:
    cases = [
        (bytes.fromhex(group["publicKey"]["pk"]), case)
        for group in load(vectors / "wycheproof-ed25519.json")["testGroups"]
        for case in group["tests"]
    ]
    wrong = [
        case["tcId"]
        for public, case in cases
        if accepts(public, bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])) != (case["result"] == "valid")
    ]
    assert len(cases) == 151
    assert wrong == []


def test_no_flagged_vector_of_cctv_is_accepted(vectors: Path) -> None:
    cases = load(vectors / "cctv-ed25519.json")
    accepted = [
        case for case in cases if accepts(bytes.fromhex(case["key"]), case["msg"].encode(), bytes.fromhex(case["sig"]))
    ]
    assert len(cases) == 914
    assert [case["number"] for case in accepted if case["flags"]] == []
    # Every vector without a flag is an honest signature, and there must be one or this test proves nothing.
    assert len(accepted) == len([case for case in cases if not case["flags"]]) > 0
