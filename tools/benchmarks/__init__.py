"""The rows of `tools/benchmark.py`: how a peer does it, beside how openvocab does it."""
