"""Programs that measure sparse inference."""
