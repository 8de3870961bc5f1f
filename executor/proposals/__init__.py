"""What is proposed: leases, and changes of trust, policy and fleet."""
