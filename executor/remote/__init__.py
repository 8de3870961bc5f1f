"""What is elsewhere and verified here: a home over ssh, an export over HTTP."""
