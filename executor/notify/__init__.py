"""Notices: a fold, an outbox, one process for each delivery."""
