"""Hosts: releases, the flip, the service, and what an instance must pass."""
