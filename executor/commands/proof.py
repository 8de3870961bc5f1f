"""`calyx ledger proof`: that an entry is in the ledger, or that the ledger extends what it was, as a file."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from executor.commands.common import HomeOption, JsonOption, opened
from executor.commands.files import read_bytes
from executor.commands.terminal import note, say, say_json, write_out
from keys.errors import CalyxError, Refused, Unavailable, UsageError
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home
    from ledger.proof import ConsistencyProof, InclusionProof

_VKEY_HINT = "it is the log_key of entry 0; have it from somebody who knows the ledger, not from the proof's sender"


def proof(
    *,
    seq: Annotated[int | None, typer.Argument(metavar="SEQ", min=0, help="The entry to prove.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The new file to write, such as 7.tlog-proof.")] = None,
    no_record: Annotated[bool, typer.Option("--no-record", help="Leave the entry itself out of the proof.")] = False,
    consistency: Annotated[
        int | None, typer.Option("--consistency", metavar="OLD", min=1, help="Prove instead that the first OLD remain.")
    ] = None,
    check: Annotated[Path | None, typer.Option("--check", help="Check this proof; no ledger is needed.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="VKEY", help="The log's verifier key.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="The entry's bytes, if the proof has none.")] = None,
    old: Annotated[Path | None, typer.Option("--old", help="The checkpoint you kept, for a consistency proof.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that an entry is in the ledger, or check such a proof.

    Example: calyx ledger proof 7 --out 7.tlog-proof

    The proof (C2SP tlog-proof@v1) holds the entry and the signed checkpoint. Whoever knows the log's key checks it off
    line with --check FILE --key VKEY. It shows what the log says, not that the entry is lawful: calyx audit does.
    """
    if check is not None:
        if seq is not None or consistency is not None or out is not None or no_record:
            raise UsageError("bad_option", "--check reads a proof and makes none", hint="leave SEQ and --out out")
        if key is None:
            raise UsageError("bad_option", "--check wants the log's key", hint=f"--key VKEY: {_VKEY_HINT}")
        _check(check, key, record, old, as_json=as_json)
        return
    if key is not None or record is not None or old is not None:
        raise UsageError("bad_option", "--key, --record and --old go with --check", hint="leave them out")
    if (seq is None) == (consistency is None):
        raise UsageError("no_subject", "name one entry, or --consistency OLD, or --check FILE")
    with opened(home) as place:
        made, vkey = _make(place, seq, consistency)
    data = _format(made, no_record=no_record)
    if out is not None:
        _write(out, data)
    if as_json:
        what = {"proof": data.decode("utf-8")} if out is None else {"file": str(out)}
        say_json({"ok": True, "log_key": vkey, **what})
    elif out is None:
        write_out(data)
    else:
        grown = "" if consistency is None else " --old CHECKPOINT"
        note(f"check it with: calyx ledger proof --check {shlex.quote(str(out))} --key {shlex.quote(vkey)}{grown}")


def _write(out: Path, data: bytes) -> None:
    from ledger.durable import create_file

    try:
        create_file(out, data, 0o644)
    except FileExistsError:
        raise UsageError("file_exists", f"{out} exists", hint="choose another name") from None
    except OSError as error:
        raise Unavailable("file_write_failed", f"cannot write {out}: {error.strerror}") from None


def _make(place: Home, seq: int | None, old: int | None) -> tuple[InclusionProof | ConsistencyProof, str]:
    from ledger.merkle import ProofRefused
    from ledger.proof import make_consistency, make_inclusion
    from policies.signed_tip import open_tip

    reader = place.open_store()
    tip, checkpoint, key = open_tip(reader, place.open_objects(), place.pin().load())
    last = seq if seq is not None else (old or 0) - 1
    if last >= checkpoint.size:
        raise Refused(
            "unknown_entry", f"the ledger has {counted(checkpoint.size, 'entry')}, 0 to {checkpoint.size - 1}"
        )
    try:
        if seq is None:
            return make_consistency(last + 1, tip.checkpoint, checkpoint, reader), str(key)
        record = next(iter(reader.read(seq, seq + 1)))
        return make_inclusion(seq, record, tip.checkpoint, checkpoint, reader), str(key)
    except ProofRefused:
        raise CalyxError(
            "ledger_corrupt",
            "the ledger's entries or its tree are not those that its checkpoint signs",
            hint="calyx audit --full says which",
        ) from None


def _format(made: InclusionProof | ConsistencyProof, *, no_record: bool) -> bytes:
    from ledger.proof import InclusionProof, format_proof

    return format_proof(replace(made, record=None) if no_record and isinstance(made, InclusionProof) else made)


def _check(path: Path, vkey: str, record: Path | None, old: Path | None, *, as_json: bool) -> None:
    from ledger.note import MAX_NOTE, parse_vkey
    from ledger.proof import MAX_PROOF, ConsistencyProof, check_consistency_proof, check_inclusion_proof, parse_proof
    from ledger.record import MAX_RECORD

    try:
        key = parse_vkey(vkey)
    except CalyxError as error:
        raise UsageError("bad_option", f"--key is no verifier key: {error.message}", hint=_VKEY_HINT) from None
    made = parse_proof(read_bytes(path, MAX_PROOF))
    if isinstance(made, ConsistencyProof):
        if old is None:
            raise UsageError("no_checkpoint", "this is a consistency proof", hint="name the old checkpoint with --old")
        if record is not None:
            raise UsageError("bad_option", "a consistency proof proves no entry", hint="leave --record out")
        before, after = check_consistency_proof(made, key, read_bytes(old, MAX_NOTE))
        found = {"origin": after.origin, "old_size": before.size, "size": after.size, "root": after.root.hex()}
        whole = counted(after.size, "entry")
        text = [f"ok: the first {before.size} of the {whole} of {after.origin} are those of the old checkpoint"]
    else:
        if old is not None:
            raise UsageError(
                "bad_option",
                "an inclusion proof says nothing of a checkpoint that was kept",
                hint="leave --old out; calyx ledger proof --consistency OLD makes the proof that --old goes with",
            )
        proved = check_inclusion_proof(made, key, None if record is None else read_bytes(record, MAX_RECORD))
        size, origin = proved.checkpoint.size, proved.checkpoint.origin
        root = proved.checkpoint.root.hex()
        found = {"seq": proved.index, "leaf": proved.leaf, "origin": origin, "size": size, "root": root}
        text = [f"ok: entry {proved.index} is in the {counted(size, 'entry')} of {origin}", f"  leaf {proved.leaf}"]
    if as_json:
        say_json({"ok": True, **found})
    else:
        say(*text, f"  root {found['root']}")
