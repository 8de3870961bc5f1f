"""Approving and objecting, here and off line, and the kit that proves an approval to a stranger."""
