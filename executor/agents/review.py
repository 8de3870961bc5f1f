"""Reviewing leases: the part that the sentinel and the validator share.

A reviewer looks at every open lease once. It signs a review that says pass or fail and names a report, and only on a
pass the cosignature that names this review. A break-glass lease gets the review alone, before its claim or, where it is
owed, afterwards. While something that it needs is not there, it says nothing and tries
again: a missing object is no reason to fail a lease, and none to pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

from executor.agents.loop import Ledger, Tries
from executor.logbook import Log
from executor.trees.workplace import NewFolder, nowhere, temporary_folder
from keys.canonical import Json, format_json
from keys.errors import CalyxError, Unavailable
from keys.signer import Signer
from keys.values import parse_time
from ledger.objects import ObjectStore
from policies.fold.state import LeaseState, State
from policies.submitter import Draft

MAX_FINDINGS: Final = 1000
MAX_SUMMARY: Final = 1000

ReviewRole: TypeAlias = Literal["sentinel", "validator"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against a lease. `code`: stable, as an error's. `path`: the file concerned, or None."""

    code: str
    text: str
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection found. `checked`: one line on what was looked at. No finding is a pass."""

    checked: str
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """`pass` only without a finding."""
        return "fail" if self.findings else "pass"

    @property
    def summary(self) -> str:
        """One line for a person."""
        if not self.findings:
            return self.checked[:MAX_SUMMARY]
        more = f" (and {len(self.findings) - 1} more)" if len(self.findings) > 1 else ""
        return self.findings[0].text[: MAX_SUMMARY - len(more)] + more


class Inspector(Protocol):
    """What a reviewer checks."""

    def inspect(self, state: State, lease: LeaseState, scratch: Path) -> Report:
        """Look at a lease. `scratch`: an empty private directory.

        Raises: Unavailable when something needed is not there; any other CalyxError is a finding.
        """
        ...


class Reviewer:
    """An agent that reviews leases in one role. `new_folder`: makes where it works each one out."""

    def __init__(
        self,
        role: ReviewRole,
        inspector: Inspector,
        ledger: Ledger,
        signer: Signer,
        objects: ObjectStore,
        *,
        monotonic: Callable[[], float],
        log: Log,
        new_folder: NewFolder = temporary_folder,
    ) -> None:
        self._role: Final[ReviewRole] = role
        self._inspector: Final = inspector
        self._ledger: Final = ledger
        self._signer: Final = signer
        self._objects: Final = objects
        self._log: Final = log
        self._new_folder: Final = new_folder
        self._tries: Final = Tries(monotonic, log)

    def act(self, state: State) -> None:
        """Review every lease that waits for it, and cosign what passed."""
        for digest in [*state.owed_reviews, *state.open_leases]:
            lease = state.leases[digest]
            if self._wants_review(state, lease):
                self._tries.run(lease.digest, lease.lease.id, partial(self._review, state, lease))
            if self._wants_cosignature(lease):
                self._tries.run(lease.digest, lease.lease.id, partial(self._cosign, lease))

    def _wants_review(self, state: State, lease: LeaseState) -> bool:
        if lease.digest in state.owed_reviews:
            return True
        return (
            self._signer.principal not in lease.reviews
            and lease.claim_seq is None
            and lease.denied is None
            and self._ledger.now() <= parse_time(lease.lease.execute_by)
        )

    def _wants_cosignature(self, lease: LeaseState) -> bool:
        me = self._signer.principal
        note = lease.reviews.get(me)
        return (
            note is not None
            and note.review.role == self._role
            and note.review.verdict == "pass"
            # Break-glass counts two humans; an agent's key beside theirs would only look as if it did something.
            and lease.lease.rule == "two_key"
            and lease.claim_seq is None
            and lease.denied is None
            and self._ledger.now() <= parse_time(lease.lease.approve_by)
            and all(vote.signer.principal != me for vote in lease.ballot.votes)
            # Taken back before it was given: then it is not wanted.
            and all(withdrawal.principal != me for withdrawal in lease.ballot.withdrawals)
        )

    def _review(self, state: State, lease: LeaseState) -> None:
        report = self._inspect(state, lease)
        fields = {
            "role": self._role,
            "verdict": report.verdict,
            "summary": report.summary,
            "findings": self._objects.put(format_report(self._role, lease, report)).to_json(),
        }
        receipt = self._ledger.submit(self._signer, Draft("review", fields, (lease.lease.id, lease.digest)))
        self._log(f"{lease.lease.id} review {report.verdict} (entry {receipt.seq}): {report.summary}")

    def _cosign(self, lease: LeaseState) -> None:
        note = lease.reviews[self._signer.principal]
        fields = {"role": self._role, "review": note.digest}
        receipt = self._ledger.submit(self._signer, Draft("cosignature", fields, (lease.lease.id, lease.digest)))
        self._log(f"{lease.lease.id} cosigned as {self._role} (entry {receipt.seq})")

    def _inspect(self, state: State, lease: LeaseState) -> Report:
        try:
            with self._new_folder() as scratch:
                return self._inspector.inspect(state, lease, scratch)
        except Unavailable:
            raise
        except CalyxError as error:
            return Report("the lease cannot be checked", (finding_of(error),))
        except OSError as error:
            raise nowhere("there is nowhere to look at it", error) from None


def finding_of(error: CalyxError) -> Finding:
    """A refusal as a finding."""
    path = error.fields.get("path")
    return Finding(error.code, error.message, path if isinstance(path, str) else None)


def format_report(role: ReviewRole, lease: LeaseState, report: Report) -> bytes:
    """The report as the canonical JSON that a review's `findings` names."""
    listed: Sequence[Finding] = report.findings[:MAX_FINDINGS]
    findings: list[Json] = [{"code": one.code, "path": one.path, "text": one.text} for one in listed]
    return format_json(
        {
            "checked": report.checked,
            "findings": findings,
            "lease": lease.digest,
            "left_out": len(report.findings) - len(listed),
            "role": role,
            "verdict": report.verdict,
            "version": 1,
        }
    )
