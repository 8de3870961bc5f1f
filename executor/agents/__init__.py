"""The agents CP14, CP18 and CP19, each a process with its own key."""
