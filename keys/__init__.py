"""Who may sign: canonical bytes, the one verifier, key files, principals."""
