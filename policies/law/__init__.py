"""The law, a judge for each kind; `policies.law.step` is its one entrance."""
