"""Fewer garbage collections while a tool starts: imports make a million objects, and none of them is garbage.

Python looks through new objects after each 700 of them, which takes a fifth of the time from the start of a process to
its first step.
"""

import gc

OBJECTS_BETWEEN_COLLECTIONS = 10_000

_usual: tuple[int, int, int] | None = None


def collect_rarely() -> None:
    """Collect garbage rarely from now on, until the tool's work begins."""
    global _usual
    if _usual is None:
        _usual = gc.get_threshold()
        gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *_usual[1:])


def collect_as_usual() -> None:
    """End `collect_rarely`: from now on, garbage may hold the tensors of a step. No effect without it."""
    global _usual
    if _usual is not None:
        gc.set_threshold(*_usual)
        _usual = None
