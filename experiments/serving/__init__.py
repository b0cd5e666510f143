"""What the server bears: load, time and faults."""
