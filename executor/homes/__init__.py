"""The home: the directory of a ledger on this machine, and who sits at it."""
