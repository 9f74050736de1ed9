"""The rows of `tools/benchmark.py`, each with a peer's way to do the work and openvocab's."""
