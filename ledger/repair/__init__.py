"""What a damaged ledger still holds, and copies of a whole one."""
