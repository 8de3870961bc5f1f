"""Off-line signing: what a person signs elsewhere with `ssh-keygen -Y sign`, written to a directory and read back.

    to-sign        exactly the bytes that are signed: the envelope's PAE
    to-sign.sig    the armored SSHSIG that ssh-keygen writes beside it
    rendering.txt  what they mean, for the person; nothing reads it back
    README.txt     how to sign, until when, and how to bring it back

Nothing in the directory is believed. `to-sign` must parse to a statement of this ledger, by an enrolled human. The
signature's own key only selects which of that human's enrolled keys is claimed; the registrar verifies.

Source: OpenSSH PROTOCOL.sshsig; DSSE protocol v1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final

from executor.escape import escape
from executor.signing.approval import check_objection, check_open, find_said
from keys.errors import CalyxError, FormatError, LawRefused, Refused, SignatureRefused, Unavailable, UsageError
from keys.openssh_public import fingerprint
from keys.principals import Principal, TrustRoot
from keys.regular import read_regular
from keys.sshsig import MAX_ARMOR, SshSig, parse_armor, parse_blob
from keys.values import fold_id, format_time
from ledger.durable import make_directory, replace_file
from ledger.envelope import MAX_ENVELOPE, Envelope, pae, parse_pae
from ledger.statement import Statement, parse_statement
from ledger.verified import namespace_of, open_envelope
from policies.fold.state import State
from policies.kinds import AnyPredicate, Cosignature, Objection, TrustProposal
from policies.law.position import find_holder, parse_predicate

TO_SIGN: Final = "to-sign"
SIGNATURE: Final = "to-sign.sig"
RENDERING: Final = "rendering.txt"
README: Final = "README.txt"

MAX_TO_SIGN: Final = MAX_ENVELOPE + 64
"""Bytes of `to-sign`: the largest statement, and the encoding's head."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement that was read back from a directory, of the right form and nothing more."""

    statement: Statement
    predicate: AnyPredicate


def write_prepared(directory: Path, statement: Statement, lines: Sequence[str], until: str | None) -> None:
    """Write a statement for signing elsewhere. The directory is new or empty; it is whole and durable on return.

    `lines`: what the statement means, as the person must see it. `until`: when it must be back, None for no such time.

    Raises: UsageError (`already_prepared`, `directory_not_empty`,
    `directory_of_another`); Unavailable (`prepare_failed`).
    """
    try:
        make_directory(directory, 0o700)
        names = sorted(os.listdir(directory))  # noqa: PTH208  # the names are all that is wanted
        if TO_SIGN in names:
            raise _prepared_before(directory, statement)
        if names:
            raise UsageError(
                "directory_not_empty", f"{directory} holds other files", hint="name a directory that is new or empty"
            )
        if directory.stat().st_uid not in {os.geteuid(), 0}:
            raise UsageError(
                "directory_of_another",
                f"{directory} belongs to another user, who could change what you are to sign",
                hint="name a directory that is new",
            )
        # Whoever can write here could swap what is signed. A memory stick without modes cannot be narrowed.
        with suppress(OSError):
            directory.chmod(0o700)
        text = "\n".join(_ascii(escape(line)) for line in lines) + "\n"
        replace_file(directory / RENDERING, text.encode("ascii"), 0o600)
        replace_file(directory / README, _readme(directory, statement, until).encode("ascii"), 0o600)
        # Last: a directory with these bytes has the rest.
        replace_file(directory / TO_SIGN, pae(statement.body), 0o600)
    except OSError as error:
        raise Unavailable(
            "prepare_failed", f"cannot write to {directory}: {error.strerror}", hint="empty it, then prepare again"
        ) from None


def read_prepared(directory: Path) -> Prepared:
    """The statement in a directory that was prepared.

    Raises: UsageError (`not_prepared`); Refused (`bad_file`); FormatError.
    """
    data = _read(directory / TO_SIGN, MAX_TO_SIGN)
    if data is None:
        raise UsageError(
            "not_prepared", f"there is no {TO_SIGN} in {directory}", hint="calyx approve ID --prepare DIR makes one"
        )
    try:
        statement = parse_statement(parse_pae(data))
        return Prepared(statement, parse_predicate(statement))
    except FormatError as error:
        raise FormatError(
            f"{directory / TO_SIGN} was changed: {error.message}", code=error.code, hint="prepare it again"
        ) from None


def read_signature(directory: Path, statement: Statement) -> tuple[SshSig, bytes]:
    """The signature beside a prepared statement and its blob, of the right form and nothing more.

    Raises: Refused (`bad_file`); Unavailable (`not_signed`); FormatError (`bad_signature_file`); SignatureRefused.
    """
    path = directory / SIGNATURE
    data = _read(path, MAX_ARMOR)
    if data is None:
        raise Unavailable(
            "not_signed", f"there is no {SIGNATURE} in {directory}", hint=f"sign it: {command(statement)}"
        )
    try:
        blob = parse_armor(data.decode("ascii"))
        return parse_blob(blob), blob
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not an SSH signature file", hint=f"sign again: {command(statement)}") from None
    except CalyxError as error:
        hint = f"sign again: {command(statement)}"
        raise FormatError(f"{path}: {error.message}", code=error.code, hint=hint) from None


def find_signer(state: State, statement: Statement) -> Principal:
    """The enrolled human a statement is by: in the root in force, or in the one that it cosigns.

    Raises: LawRefused (`wrong_ledger`); Refused (`unknown_principal`, `not_a_human`).
    """
    if statement.ledger != state.ledger:
        raise LawRefused(
            "wrong_ledger",
            f"this was prepared for the ledger {statement.ledger[:16]}, and this is {state.ledger[:16]}",
            rule="identity",
            hint="attach it in the home of its own ledger",
        )
    for root in _roots(state, statement):
        person = root.find_principal(statement.by)
        if person is not None:
            if person.kind != "human":
                raise Refused("not_a_human", f"{person.id} is a machine; people sign here")
            return person
    raise Refused("unknown_principal", f"the trust root has no principal {statement.by}", hint="calyx keys show --all")


def join_signature(state: State, prepared: Prepared, signature: SshSig, blob: bytes) -> Envelope:
    """The envelope of a prepared statement and its signature, verified as the registrar will verify it again.

    Raises: SignatureRefused (`unknown_key`, `wrong_namespace`, `bad_signature`, ...); FormatError.
    """
    statement = prepared.statement
    envelope = Envelope(statement.body, fingerprint(signature.key), blob)
    try:
        holder = find_holder(state, statement, prepared.predicate, envelope.keyid)
        open_envelope(envelope, statement, holder.enrolled)
    except SignatureRefused as error:
        if error.code == "unknown_key":
            raise SignatureRefused(
                f"the signature is by the key {envelope.keyid}, which is not enrolled for {statement.by}",
                code=error.code,
                hint="sign with an enrolled key; calyx keys show --all lists them",
            ) from None
        if error.code == "bad_signature":
            raise SignatureRefused(
                f"the signature is over other bytes than those in {TO_SIGN}",
                code=error.code,
                hint=f"sign again: {command(statement)}",
            ) from None
        raise
    return envelope


def check_attachable(state: State, prepared: Prepared, now: int) -> None:
    """Spare the ledger what is signed and can count no more: decided since, too late, or taken back by its signer.

    Raises: LawRefused, with the rule, its step and the entry that is in the way.
    """
    statement, said = prepared.statement, prepared.predicate
    subject = find_said(state, statement.subject_digest)
    if subject is None:
        return
    if isinstance(said, Cosignature):
        check_open(state, subject, now)
        taken_back = [
            item.seq
            for item in subject.ballot.withdrawals
            if fold_id(item.principal) == fold_id(statement.by) and item.seq >= statement.head.size
        ]
        if taken_back:
            raise LawRefused(
                "withdrawn",
                f"{statement.by} took it back in entry {taken_back[-1]}, after it was prepared",
                rule="objection",
                step=4,
                entry=taken_back[-1],
                hint="prepare and sign it again to approve after all",
            )
    elif isinstance(said, Objection):
        check_objection(state, subject, said.verb)


def return_by(state: State, statement: Statement) -> str | None:
    """Until when a statement can come back and count; None where only other entries decide that."""
    fields = statement.predicate
    if statement.kind == "command":
        return str(fields["expires_at"])
    if statement.kind in {"trust", "policy", "fleet"}:
        return str(fields["approve_by"])
    lease, proposal = state.leases.get(statement.subject_digest), state.proposals.get(statement.subject_digest)
    if statement.kind != "cosignature":
        return None
    return lease.lease.approve_by if lease is not None else None if proposal is None else proposal.proposal.approve_by


def command(statement: Statement, directory: Path | None = None) -> str:
    """The one command that signs a prepared statement, in its directory or from anywhere."""
    name = TO_SIGN if directory is None else quote(str(directory / TO_SIGN))
    return f"ssh-keygen -Y sign -n {namespace_of(statement.kind)} -f YOUR_KEY {name}"


def _roots(state: State, statement: Statement) -> list[TrustRoot]:
    roots = [] if state.trust is None else [state.trust]
    proposal = state.proposals.get(statement.subject_digest)
    if proposal is not None and isinstance(proposal.proposal, TrustProposal):
        roots.append(proposal.proposal.trust)
    return roots


def _prepared_before(directory: Path, statement: Statement) -> UsageError:
    try:
        before = read_prepared(directory).statement
        about = (before.kind, before.subject_digest) == (statement.kind, statement.subject_digest)
    except CalyxError:
        about = False
    what = "this is prepared there already" if about else "something else is prepared there"
    return UsageError(
        "already_prepared", f"{directory}: {what}", hint=f"calyx attach {quote(str(directory))}, or name another one"
    )


def _read(path: Path, limit: int) -> bytes | None:
    """A plain file of at most `limit` bytes, None where there is none. No link is followed, no pipe waited for."""
    try:
        data = read_regular(path, limit, links=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused("bad_file", f"cannot read {path}: {error.strerror}", hint="links are not followed") from None
    if len(data) > limit:
        raise FormatError(f"{path} is over the limit of {limit} bytes", code="too_large")
    return data


def _readme(directory: Path, statement: Statement, until: str | None) -> str:
    sign = command(statement)
    lines = [
        f"One statement of {statement.by} for a Station Calyx ledger, to be signed elsewhere.",
        "",
        f"  kind       {statement.kind}",
        f"  about      {statement.subject_name}, {statement.subject_digest}",
        f"  made at    {format_time(statement.made_at)}",
        f"  back until {until or 'no time; what counts is that it comes before the claim'}",
        f"  digest     {statement.digest}",
        "",
        f"Read {RENDERING} first: who asks, what changes, and what you sign. It was written by the machine that",
        f"prepared this; what you sign is {TO_SIGN} alone, one line of JSON that any editor shows. Check in it:",
        '"by" is you, "subject" has the digest under about, and the kind in "predicateType" is the one above.',
        "If you trust that machine less than another reader of the ledger, look there too: calyx show ID.",
        "",
        "To sign, in this directory, with your own key (a file, or the .pub of a key in ssh-agent or on a token):",
        "",
        f"  {sign}",
        "",
        f"It writes {SIGNATURE}. Bring that file back beside {TO_SIGN}; whoever does needs no key of yours:",
        "",
        f"  calyx attach {quote(directory.name)}",
        "",
        "Until then it is not in the ledger. To make it worthless, wherever it is: calyx withdraw, before the claim.",
    ]
    return "\n".join(_ascii(escape(line)) for line in lines) + "\n"


def _ascii(text: str) -> str:
    """Text for any editor and printer: what is not ASCII as its code point."""
    return "".join(char if char.isascii() else f"<U+{ord(char):04X}>" for char in text)
