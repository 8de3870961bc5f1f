"""The audit of a ledger or an export, again from where it ended, and exporting with objects."""
