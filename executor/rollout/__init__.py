"""The executor: one loop, one decision, the effects under way."""
