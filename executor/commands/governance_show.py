"""A trust root, a policy or a fleet as tables for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from executor.commands.terminal import say_table, say_theirs

if TYPE_CHECKING:
    from executor.proposals.governance import Value
    from keys.principals import TrustRoot
    from policies.fleet import Fleet
    from policies.matrix import CapabilityMatrix


def show_value(value: Value) -> None:
    """Print the value; all of it is in its YAML."""
    from keys.principals import TrustRoot
    from policies.matrix import CapabilityMatrix

    if isinstance(value, TrustRoot):
        _show_trust(value)
    elif isinstance(value, CapabilityMatrix):
        _show_policy(value)
    else:
        _show_fleet(value)


def _show_trust(root: TrustRoot) -> None:
    from keys.openssh_public import fingerprint

    rows = [
        (
            principal.id,
            principal.kind,
            " ".join(principal.roles),
            principal.custodian,
            fingerprint(entry.public) + (", verifies its user" if entry.user_verification else ""),
        )
        for principal in root.principals
        for entry in principal.keys
    ]
    say_table(("principal", "kind", "roles", "custodian", "key"), rows)
    say_theirs(
        "",
        f"needed      governors {root.thresholds.governors}, operators {root.thresholds.operators}",
        f"expires     {root.expires}",
        *(f"revoked     {fingerprint(item.public)} from entry {item.position} on" for item in root.compromised),
    )


def _show_policy(policy: CapabilityMatrix) -> None:
    from executor.render.text import shown_gate

    terms, glass = policy.deploy_production, policy.deploy_production.break_glass
    phases = policy.phases
    numbered = enumerate((phases.reflect, phases.review, phases.sandbox, phases.deploy))
    say_table(
        ("phase", "name", "status", "capabilities"),
        [(str(number), phase.name, phase.status, " ".join(phase.capabilities)) for number, phase in numbered],
    )
    emergency = f"good for {glass.max_validity_s} s, review owed within {glass.review_within_s} s"
    say_theirs(
        "",
        f"deployment  {'on' if policy.deployment_enabled() else 'off'}",
        *(f"target      {name}: {', '.join(rule.paths)}" for name, rule in terms.targets.items()),
        f"tiers       {', '.join(f'{tier} %' for tier in terms.tiers)}",
        f"bake        {terms.bake_s} s a tier, a sample every {terms.interval_s} s",
        f"start       {'by itself' if terms.start == 'auto' else 'by calyx start'}",
        f"promotion   {'by itself' if terms.promotion == 'auto' else 'by calyx promote'}",
        f"skip bake   {'allowed' if terms.skip_bake else 'never'}",
        f"look        {'a person is shown the change' if terms.look else 'not asked for'}",
        f"reviews     {', '.join(terms.reviews) or 'none'}",
        f"retention   {terms.retention_s} s",
        *(f"gate        {gate.name}: {shown_gate(gate)}" for gate in terms.gates),
        f"break-glass {emergency if glass.enabled else 'off'}",
        *(f"hook        {name}: {' '.join(hook.argv)}" for name, hook in terms.hooks.items()),
        *(f"notify      {event}: {', '.join(channels)}" for event, channels in terms.notify.items()),
    )


def _show_fleet(fleet: Fleet) -> None:
    say_table(
        ("target", "instance", "address", "root"),
        [(name, i.name, i.address, i.root) for name, target in fleet.targets.items() for i in target.instances],
    )
