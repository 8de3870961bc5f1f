"""What the executor says in the ledger, always under its newest term."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from executor.hosts.host import MAX_LINEAGE, Fence
from executor.logbook import Log, fact_line, warning_line
from executor.rollout.figures import Figures
from keys.errors import LawRefused, Unavailable
from keys.signer import Signer
from policies.fold.state import State
from policies.submitter import Draft, Receipt, Submitter

MAX_REFUSALS: Final = 100
"""Refusals in a row after which the executor's idea of the law is wrong, and it must stop."""
LEVELS: Final = {"PREFLIGHT_FAILED": "warning", "HALTED": "warning", "ROLLBACK_FAILED": "error"}
"""Log levels of what is said; what is not named here is information."""

Subject: TypeAlias = tuple[str, str]
"""A lease's id and digest."""


class Speaker:
    """Signs and submits for one executor. For the thread that owns the registrar; `fence` may be read by workers.

    `earlier`: ledgers before the one that this ledger's genesis continues, the newest first. `figures`: what it counts
    in.
    """

    def __init__(
        self,
        registrar: Submitter,
        signer: Signer,
        log: Log,
        earlier: Sequence[str] = (),
        figures: Figures | None = None,
    ) -> None:
        self._registrar = registrar
        self._signer = signer
        self._log = log
        self._earlier = earlier
        self._figures = figures or Figures(time.monotonic)
        self._refusals = 0
        self._fence: Fence | None = None

    def take_over(self) -> None:
        """Begin a term: the next epoch. Raises: CalyxError of the law or the ledger."""
        state = self._registrar.sync()
        epoch = 1 if state.term is None else state.term.epoch + 1
        receipt = self._submit(Draft("term", {"epoch": epoch, "reason": "executor started"}))
        before = () if state.continues is None else (state.continues.ledger, *self._earlier)
        self._fence = Fence(ledger=state.ledger, epoch=epoch, leaf=receipt.leaf, continues=before[:MAX_LINEAGE])
        self._log(fact_line(f"epoch {epoch}, entry {receipt.seq}", event="TERM", epoch=epoch, seq=receipt.seq))

    @property
    def fence(self) -> Fence:
        """The term as hosts know it. Raises: Unavailable (`no_term`) before `take_over`."""
        if self._fence is None:
            raise Unavailable("no_term", "the executor has not taken over yet")
        return self._fence

    def check_term(self, state: State) -> None:
        """Prove that the term is still the newest; an executor that has nothing to say would not hear of another one.

        Raises: LawRefused (`fenced`).
        """
        if state.term is not None and state.term.epoch != self.fence.epoch:
            raise LawRefused(
                "fenced",
                f"epoch {self.fence.epoch} is over: the newest term is {state.term.epoch}",
                rule="epoch",
                hint="another executor took over",
            )

    def say(self, subject: Subject, detail: dict[str, Any]) -> Receipt | None:
        """Append an event; None when the state moved on meanwhile and the law refused it.

        Raises: LawRefused when another executor took over (`fenced`), or the law keeps refusing; CalyxError of the
        ledger.
        """
        try:
            receipt = self._submit(Draft("event", {"epoch": self.fence.epoch, "detail": detail}, subject))
        except LawRefused as refusal:
            self._refusals += 1
            self._figures.count_error(refusal.code)
            if refusal.code == "fenced" or self._refusals > MAX_REFUSALS:
                raise
            text = f"{subject[0]} {detail['type']} refused: {refusal}"
            self._log(warning_line(text, lease_id=subject[0], code=refusal.code))
            self._registrar.sync()
            return None
        self._refusals = 0
        self._figures.count_event(str(detail["type"]))
        facts = {name: detail.get(name) for name in ("tier", "instance", "cause", "code", "tree")}
        facts["level"] = LEVELS.get(detail["type"])
        text = f"{subject[0]} {_spell(detail)} (entry {receipt.seq})"
        self._log(fact_line(text, lease_id=subject[0], event=detail["type"], seq=receipt.seq, **facts))
        return receipt

    def claim(self, subject: Subject, fields: dict[str, Any]) -> Receipt | None:
        """Append a claim; None when the law refused it.

        Raises: LawRefused (`fenced`); FormatError when it does not fit into a record; CalyxError of the ledger.
        """
        try:
            return self._submit(Draft("claim", fields, subject))
        except LawRefused as refusal:
            if refusal.code == "fenced":
                raise
            self._figures.count_error(refusal.code)
            text = f"{subject[0]} not claimed: {refusal}"
            self._log(warning_line(text, lease_id=subject[0], code=refusal.code))
            self._registrar.sync()
            return None

    def _submit(self, draft: Draft) -> Receipt:
        with self._figures.timing("append"):
            return self._registrar.submit(self._signer, draft)


def _spell(detail: dict[str, Any]) -> str:
    parts = [str(detail["type"])]
    if "tier" in detail:
        parts.append(f"{detail['tier']} %")
    parts.extend(str(detail[name]) for name in ("instance", "cause", "code", "text", "warning") if detail.get(name))
    return " ".join(parts)
