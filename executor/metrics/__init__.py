"""Where samples come from, and what a policy makes of recorded ones."""
