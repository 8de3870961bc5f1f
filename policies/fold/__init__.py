"""The state that entries fold into, what of it stays in memory, and where the rest lies."""
