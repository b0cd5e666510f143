"""Launchers and programs that make, train, measure and show; run them as `python -m`."""
