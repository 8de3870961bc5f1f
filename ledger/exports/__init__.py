"""The log as static files, written, read and mirrored."""
