"""What the commands that ask for a change share: whose key signs, and how intent and lease get into the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from executor.commands.common import check_begun
from executor.commands.terminal import ask_passphrase, note, say, say_json
from keys.errors import Refused, Unavailable
from keys.words import counted

if TYPE_CHECKING:
    from executor.homes.home import Home
    from executor.proposals.propose import Asked, Planned
    from keys.signer import Signer
    from policies.fold.state import LeaseState, State
    from policies.submitter import Receipt, Submitter


@dataclass(frozen=True, slots=True)
class Submitted:
    """A lease that is in the ledger. `approve_by`: UTC text."""

    lease: str
    approve_by: str
    receipt: Receipt


def load_proposer(home: Home, state: State) -> Signer:
    """The signer of a principal with the role proposer whose key this home holds.

    Raises: Unavailable (`no_proposer`).
    """
    known = [] if state.trust is None else [p.id for p in state.trust.principals if "proposer" in p.roles]
    for principal in known:
        if home.find_key(principal) is not None:
            return home.load_signer(principal, state, ask_passphrase)
    raise Unavailable("no_proposer", "this home holds no key of a proposer", hint="calyx keys show --all")


def ledger_now(registrar: Submitter) -> int:
    """The time that an entry would have now, seconds since 1970: no entry is older than the one before it."""
    history = registrar.state.history
    return max(registrar.now(), history.time(history.size - 1))


def submit_change(
    home: Home, registrar: Submitter, signer: Signer, asked: Asked, planned: Planned, replaces: LeaseState | None = None
) -> Submitted:
    """Sign and append an intent and its lease. `replaces`: a lease that is denied with it, in one commit, so that never
    both can be claimed.

    Raises: LawRefused where nobody could claim it; Refused (`key_not_enrolled`); CalyxError of the ledger.
    """
    from executor.proposals.propose import check_terms, lease_fields
    from policies.fold.state import SignerRef
    from policies.submitter import Draft

    state = check_begun(registrar.sync())
    now = ledger_now(registrar)
    fields = lease_fields(asked, planned, state, home.open_objects(), now)
    lease = Draft("lease", fields)
    holder = None if state.trust is None else state.trust.find_key(signer.keyid)
    if holder is None:
        raise Refused("key_not_enrolled", f"the key of {signer.principal} is not enrolled", hint="calyx keys show")
    proposer = SignerRef(
        signer.principal,
        holder.principal.kind,
        signer.keyid,
        holder.entry.public.raw.hex(),
        holder.principal.custodian,
    )
    check_terms(state, registrar.draft_statement(signer.principal, lease), planned, proposer, now)
    name = str(fields["id"])
    what = asked.what if planned.archive is None else f"{asked.what} (archive sha256:{planned.archive})"
    intent = {"id": fields["intent"], "target": asked.target, "what": what, "why": asked.why}
    drafts = [Draft("intent", intent), lease]
    if replaces is not None:
        end = {"verb": "deny", "reason": f"replaced by {name}"}
        drafts.append(Draft("objection", end, (replaces.lease.id, replaces.digest)))
    return Submitted(name, str(fields["approve_by"]), registrar.submit_all(signer, drafts)[1])


def note_busy(state: State, target: str) -> None:
    """Warn that a lease starts from trees in the middle of a rollout."""
    live = state.live.get(target)
    if live is not None:
        name = state.leases[live].lease.id
        note(f"note: {name} runs on {target}, and this starts from what is there just now; --onto {name} follows on it")


def tell_change(
    asked: Asked, planned: Planned, submitted: Submitted, *, as_json: bool, more: Mapping[str, str]
) -> None:
    """Say what was asked, and what comes next. `more`: what else a program is told; a person reads it as a line."""
    if planned.settled:
        settled = len(planned.settled)
        note(f"note: {counted(settled, 'instance')} {'has' if settled == 1 else 'have'} this tree already: left out")
    lease, receipt = submitted.lease, submitted.receipt
    if as_json:
        facts = {"lease_id": lease, "digest": receipt.digest, "seq": receipt.seq, "approve_by": submitted.approve_by}
        say_json({**facts, "paths": list(planned.paths), **more})
        return
    count = sum(len(names) for names in planned.groups.values())
    glass = asked.break_glass is not None
    say(
        f"{lease}  BREAK-GLASS" if glass else lease,
        f"  entry {receipt.seq}, {counted(len(planned.paths), 'changed path')} on {counted(count, 'instance')} "
        f"of {asked.target}",
        *(f"  {word} {value}" for word, value in more.items()),
        f"  approval until {submitted.approve_by}",
        f"  next: calyx approve {lease}" + (", by two humans; an agent then owes a review" if glass else ""),
    )
