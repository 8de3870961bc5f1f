"""What is shown before a signature, made from the exact bytes."""
