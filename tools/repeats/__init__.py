"""The parts of tools/repeat.py: one seed's run, several of them, and the table of their metrics."""
