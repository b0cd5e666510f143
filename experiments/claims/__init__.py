"""The headline claims of the eight papers, each as a command: `python -m experiments.claims`."""
