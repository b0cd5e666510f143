"""Tasks: from a batch to a loss, from sound to predictions."""
