"""What was said, in what order: entries, their chain and tree, and where they are kept."""
