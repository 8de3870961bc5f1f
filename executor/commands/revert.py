"""`calyx rollback --revert`: the way back from what a later deployment changed, as a lease for both keys."""

from __future__ import annotations

from executor.commands.common import check_begun, find_deployment, find_lease, opened, parse_duration
from executor.commands.proposing import ledger_now, load_proposer, submit_change, tell_change
from executor.commands.terminal import note


def propose_revert(
    home: str | None, name: str, reason: str, valid_for: str, *, as_json: bool, accept_clock: bool
) -> None:
    """Draft a lease that undoes the deployment of another. `valid_for`: a duration as typed, "" for the usual one.

    Raises: LawRefused where it can be rolled back, or where there is no way back; as
    `executor.proposals.replan.plan_revert`.
    """
    from executor.proposals.propose import Asked
    from executor.proposals.replan import check_revertible, plan_revert
    from executor.rollout.service import host_finder

    with opened(home, here=True) as place:
        registrar = place.open_registrar(accept_clock=accept_clock)
        state = check_begun(registrar.sync())
        lease = find_lease(state, name)
        deployment = find_deployment(state, lease)
        check_revertible(state, deployment, ledger_now(registrar))
        signer = load_proposer(place, state)
        objects = place.open_objects()
        planned, gone = plan_revert(state, deployment, host_finder(objects), objects, place.open_store())
        asked = Asked(
            target=lease.lease.target,
            what=f"undo {lease.lease.id}",
            why=reason or "not said",
            valid_s=parse_duration(valid_for) if valid_for else None,
        )
        submitted = submit_change(place, registrar, signer, asked, planned)
    if gone:
        note(f"note: the target has {', '.join(gone)} no more; left out")
    tell_change(asked, planned, submitted, as_json=as_json, more={"undoes": lease.lease.id})
