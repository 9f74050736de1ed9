"""What the readers of foreign pickles share: a bound on what a pickle may ask for, and functions that it cannot change.

A pickle is a small program. Its unpickler reserves what an instruction announces before it looks whether the file holds
that much, and sets attributes on whatever object a program names.
"""

import pickle
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

BROKEN = (
    pickle.UnpicklingError, ValueError, EOFError, KeyError, TypeError, IndexError, AttributeError, OverflowError,
    RecursionError, MemoryError, AssertionError,
)  # fmt: skip
"""What reading a broken pickle can raise."""
_PLACES = {"PUT", "BINPUT", "LONG_BINPUT"}


class Function:
    """One of our functions, in a shell whose attributes a pickle cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what an instruction of a pickle would set."""
        if hasattr(self, "_function"):
            raise pickle.UnpicklingError("a pickle tried to change the reader")
        super().__setattr__(name, value)

    def __setstate__(self, state: Any) -> None:
        """Refuse what an instruction of a pickle would set."""
        raise pickle.UnpicklingError("a pickle tried to change the reader")


def check_program(file: BinaryIO) -> None:
    """Walk over the pickle at the position of `file` without running it, and go back to where it began.

    Each instruction is read whole, so that none can announce more bytes than there are; the memo, a table which the
    unpickler makes as long as the largest number in it, may have no more places than instructions stand before.

    Raises:
        pickle.UnpicklingError: a place in the memo beyond that.
        ValueError, EOFError: a broken pickle.
    """
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _PLACES and not 0 <= argument <= count:
            raise pickle.UnpicklingError(f"instruction {count} uses place {argument} of the memo")
    file.seek(start)
