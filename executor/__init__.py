"""What is done: trees, hosts, the rollout, and everything that a person sees."""
