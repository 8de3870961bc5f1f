"""Folds for people: what waits, how far a deployment is, who did what."""
