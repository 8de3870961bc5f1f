"""The audit: an outsider's full check of a ledger, which trusts nothing in it but what signatures prove.

    bytes and chain     every record canonical, in its place, linked to the one before it
    tree                the newest checkpoint is signed by the log key of record 0, and covers every record to the last
    signatures, law     every entry is judged as when it was appended, by the law in force at its position
    objects             everything that entries refer to is there and whole
    memory              the history extends what this reader verified before

It goes on after a finding as far as that means something, and says from which entry on the law is undecided. A finding
names the entry that was changed, as in `ledger.chain`. A cut of the end leaves no trace in what remains: only a head
that was remembered shows it, so an audit without one says so.

Memory is flat: what grows with the ledger lies in scratch files. An audit may go on from a state that the same reader
verified before (`policies.auditing.again`); it is whole unless told so.

Source: docs/FORMAT.md, audit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from keys.ahead import SignaturesAhead, WorkerFailed
from keys.errors import CalyxError, LawRefused, SignatureRefused
from keys.words import counted
from ledger.chain import Chain, ChainBroken, Entry
from ledger.checkpoint import Checkpoint, parse_checkpoint
from ledger.note import parse_vkey
from ledger.objects import OBJECT_CODES
from ledger.record import parse_record
from ledger.remembered import HeadContradicted, Remembered, check_remembered
from ledger.store import Reader, Tip
from ledger.verified import VerifiedSignature
from policies.auditing.accounts import find_unaccounted, note_standing
from policies.auditing.objects import AuditObjects, ObjectAudit
from policies.auditing.report import MAX_FINDINGS, Finding, Progress, Report
from policies.auditing.stored import OWN_CHECKS, compare_store, find_tip
from policies.auditing.survey import Survey
from policies.fold.scratch import IN_MEMORY, Scratch, ScratchFailed
from policies.fold.shelf import shelved_state
from policies.fold.snapshot import Folded
from policies.fold.state import State
from policies.law.step import enact, judge
from policies.read_ahead import read_ahead, signatures_ahead
from policies.signed_tip import find_log_key

KEEP: Final = 1_024
"""Leases and deployments that at least stay objects: some 10 MB. To pack one takes as long as to judge a few."""
_MOVING: Final = frozenset({"claim", "event", "command"})
"""Kinds that change a deployment; their subject is its lease."""


class _Enough(Exception):
    """The report is long enough."""


def audit(
    reader: Reader,
    objects: AuditObjects,
    *,
    remembered: Remembered | None,
    progress: Progress | None = None,
    store_path: Path | None = None,
    jobs: int = 1,
    scratch: Scratch = IN_MEMORY,
    start: Folded | None = None,
    keep: Callable[[Folded], str | None] | None = None,
) -> Report:
    """Check a ledger from its first entry to its last; every finding, at most 1,000.

    `remembered`: what this reader verified before, or None. `store_path`: the SQLite file, to compare its caches with
    the records too. `jobs`: how many processes work, this one included; for a short ledger it does alone. What is found
    does not depend on it. `scratch`: where that lies which is too much for memory. `start`: the state after entries
    that this reader audited before, and whose last record the ledger still has; only what follows is looked at. `keep`:
    called with the state at the end when nothing is wrong; what it says is a note.

    Raises: Unavailable when the ledger cannot be read at all, a process fails (`worker_failed`) or the disk of
    `scratch` does (`scratch_failed`).
    """
    begin = start or Folded(shelved_state(scratch, KEEP), Chain())
    run = _Audit(reader, objects, progress, begin.state, begin.chain, scratch)
    run.first = run.chain.head.size
    tip = run.open_tip()
    with signatures_ahead(jobs, tip.head.size - run.first, required=True) as ahead:
        run.ahead = ahead
        return run.run(tip, remembered, store_path, keep)


@dataclass(slots=True)
class _Audit:
    reader: Reader
    objects: AuditObjects
    progress: Progress | None
    state: State
    chain: Chain
    scratch: Scratch
    first: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    survey: Survey | None = None
    tipless: bool = False
    """Whether the store's own word on its head could not be read."""
    broken: bool = False
    ahead: SignaturesAhead | None = None
    moved: set[str] = field(default_factory=set)
    """Of an audit that goes on: digests of leases of which an entry claimed, ordered or told something."""
    kept: ObjectAudit = field(init=False)

    def __post_init__(self) -> None:
        self.kept = ObjectAudit(self.objects, self._object_missing, self.scratch)

    def open_tip(self) -> Tip:
        tip, damage = find_tip(self.reader, self.first)
        if damage is not None:
            self.tipless = True
            self._find(damage.code, None, damage.message)
            if damage.hint:
                self.notes.append(damage.hint)
        return tip

    def run(
        self,
        tip: Tip,
        remembered: Remembered | None,
        store_path: Path | None,
        keep: Callable[[Folded], str | None] | None,
    ) -> Report:
        try:
            if tip.head.size:
                self._read(tip)
            if not (self.chain.head.size or self.broken):
                self._find("no_genesis", None, "the ledger is empty")
            self._check_deployments()
            if store_path is not None:
                self._check_store(store_path)
        except _Enough:
            self.notes.append(f"the audit stopped after {MAX_FINDINGS} findings")
        self._check_remembered(remembered)
        self._note_objects()
        said = None if keep is None or self.findings else keep(Folded(self.state, self.chain))
        if said is not None:
            self.notes.append(said)
        return Report(
            ok=not self.findings,
            size=self.chain.head.size,
            ledger=self.state.ledger,
            head=self.chain.head,
            root=self.chain.frontier.root().hex(),
            origin=self.state.origin,
            decided=self.state.size,
            findings=sorted(self.findings, key=lambda finding: -1 if finding.entry is None else finding.entry),
            notes=self.notes,
            first=self.first,
        )

    def _read(self, tip: Tip) -> None:
        checkpoint = self._open_checkpoint(tip)
        end = max(tip.head.size, 0 if checkpoint is None else checkpoint.size)
        broken: CalyxError | None = None
        try:
            entries = self.chain.replay(self.reader.read(self.first, end), checkpoint)
            for entry, signature in read_ahead(entries, self.ahead, lambda: self.state.trust):
                self._judge(entry, signature)
                if self.progress is not None:
                    self.progress(entry.seq + 1, end)
        except ChainBroken as error:
            broken = error
            self._find("broken_chain", error.entry, error.message.removeprefix(f"entry {error.entry}: "))
        except (WorkerFailed, ScratchFailed):
            raise
        except CalyxError as error:
            broken = error
            place = error.fields.get("entry")
            self._find(error.code, place if isinstance(place, int) else self.chain.head.size, error.message)
        if broken is None and not self.tipless:
            # One row is enough to say so. While others append, what lies behind this tip is theirs.
            if next(iter(self.reader.read(end, end + 1)), None) is not None and self.reader.tip() == tip:
                self._find(
                    "broken_chain",
                    end,
                    f"it lies behind the last of {counted(end, 'entry')}; nobody appended it lawfully",
                )
            if tip.head != self.chain.head:
                self._find("tip_mismatch", None, f"the store says {tip.head}, its records are {self.chain.head}")
        if broken is None and checkpoint is None:
            self.notes.append("no checkpoint confirms the last entry")
        if broken is not None:
            self.broken = True
            self._survey_rest(broken, checkpoint, end)
        if self.survey is not None:
            self.notes.append(
                f"the law is undecided from entry {self.state.size} on: no entry from there has any effect"
            )
            if self.survey.unknown:
                self.notes.append(
                    f"{self.survey.unknown} signatures from there on could not be checked: their keys are not known "
                    "where the law is undecided"
                )

    def _open_checkpoint(self, tip: Tip) -> Checkpoint | None:
        """The newest checkpoint, verified with the key of record 0, once that was found lawful by itself."""
        if self.tipless:
            return None
        try:
            key = parse_vkey(self.state.log_key) if self.first else find_log_key(self.reader, self.objects)
        except CalyxError:
            # Reported when the entries are read.
            return None
        try:
            return parse_checkpoint(tip.checkpoint, key)
        except CalyxError as error:
            self._find("bad_checkpoint", None, f"the newest checkpoint is not the log's: {error.message}")
            return None

    def _judge(self, entry: Entry, signature: VerifiedSignature | None) -> None:
        if self.survey is not None:
            self.survey.take(entry, signature)
            return
        try:
            change, verified = judge(self.state, entry, self.objects, signature)
        except ScratchFailed:
            raise
        except CalyxError as error:
            self._find_unlawful(entry.seq, error)
            self._undecided().flag(entry.seq)
            self._undecided().take(entry, signature)
            return
        self.state = enact(self.state, entry, change, verified)
        self.kept.visit(entry.seq, verified.statement)
        if self.first and verified.statement.kind in _MOVING:
            self.moved.add(verified.statement.subject_digest)

    def _find_unlawful(self, seq: int, error: CalyxError) -> None:
        if error.code in OBJECT_CODES or isinstance(error, SignatureRefused):
            self._find(error.code, seq, error.message)
        else:
            rule = f", rule {error.rule}" if isinstance(error, LawRefused) else ""
            step = f", step {error.fields['step']}" if "step" in error.fields else ""
            self._find("unlawful_entry", seq, f"it is not lawful ({error.code}{rule}{step}): {error.message}")

    def _undecided(self) -> Survey:
        if self.survey is None:
            self.survey = Survey(self.state, self._find, self.kept.visit, self.scratch)
        return self.survey

    def _survey_rest(self, broken: CalyxError, checkpoint: Checkpoint | None, end: int) -> None:
        decided = self.survey is None
        survey = self._undecided()
        place = broken.fields.get("entry")
        if isinstance(place, int):
            survey.flag(place)
            if decided and place > self.chain.head.size:
                self._judge_unconfirmed(survey)
        confirmed = survey.run(self.reader, self.chain, checkpoint, end)
        if confirmed:
            self.notes.append("the checkpoint confirms every entry that is not named in a finding")
        elif confirmed is False:
            self.notes.append("the checkpoint does not confirm the entries that are not named in a finding")

    def _judge_unconfirmed(self, survey: Survey) -> None:
        # Nothing confirms the entry before the one that is broken, so it has no effect. The law can still decide it,
        # for everything before it is decided.
        seq = self.chain.head.size
        try:
            record = next(map(parse_record, self.reader.read(seq, seq + 1)), None)
        except CalyxError:
            # It changed since it was read; the survey says what is there now.
            return
        if record is None:
            # The checkpoint alone says that there is one.
            return
        try:
            judge(self.state, Entry(seq, record, record.leaf), self.objects)
        except ScratchFailed:
            raise
        except CalyxError as error:
            self._find_unlawful(seq, error)
            survey.leave_out(seq)

    def _check_deployments(self) -> None:
        known = self.state.deployments
        # Those that nothing moved since an earlier audit are as it found them, and it found nothing.
        moved = [known[digest] for digest in sorted(self.moved) if digest in known] if self.first else known.values()
        for entry, text in find_unaccounted(moved):
            self._find("unaccounted", entry, text)
        self.notes += note_standing(self.state)

    def _check_store(self, path: Path) -> None:
        for each in compare_store(path, None if self.tipless else self.reader):
            # Caches of records that were changed differ from them, and that says nothing new.
            if not self.broken or each.where in OWN_CHECKS:
                self._find("store_damaged", each.entry, f"the ledger file ({each.where}): {each.message}")

    def _check_remembered(self, remembered: Remembered | None) -> None:
        size = self.chain.head.size
        if remembered is None or remembered.size == 0:
            self.notes.append(f"consistent to {size}; a cut after {size} is not excluded")
            return
        if self.broken and size < remembered.size:
            self.notes.append(f"the head remembered at {remembered.size} lies behind what is broken: not compared")
            return
        try:
            ledger = self.state.ledger if self.state.size else self.reader.leaf(0) if size else remembered.ledger
            check_remembered(remembered, ledger, self.chain.head, self.reader.leaf)
        except HeadContradicted as error:
            self.findings.append(Finding(error.code, None, error.message))
        except CalyxError as error:
            self.findings.append(Finding(error.code, remembered.size - 1, error.message))
        else:
            self.notes.append(
                f"consistent to {size}, and with the head remembered at {remembered.size}; a cut of entries that this "
                "reader never saw is not excluded"
            )

    def _note_objects(self) -> None:
        self.notes.append(f"{counted(self.kept.checked, 'object')} checked")
        if self.kept.kept_nowhere:
            count = self.kept.kept_nowhere
            self.notes.append(f"{count} trees are named by their digest only: no manifest of them is kept")

    def _object_missing(self, seq: int, error: CalyxError) -> None:
        self._find(error.code, seq, error.message)

    def _find(self, code: str, entry: int | None, message: str) -> None:
        self.findings.append(Finding(code, entry, message))
        if len(self.findings) >= MAX_FINDINGS:
            raise _Enough
