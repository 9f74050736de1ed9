"""The package's only unpickler: it imports nothing that a pickle names, and limits the memory that one can request.

A pickle is a small program. Python's unpickler imports and calls what the program names, allocates as much memory as an
instruction states without checking that the file contains that much, and sets attributes of any object that the program
can reach.
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
_MEMO_WRITES = {"PUT", "BINPUT", "LONG_BINPUT"}


def load_restricted(
    file: BinaryIO,
    resolve: Callable[[str, str], Any],
    *,
    encoding: str,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Check the pickle at the position of `file`, then load it without importing anything.

    Args:
        file: binary and seekable; afterwards its position is after the pickle.
        resolve: called with the module and the name of each class or function in the pickle. It returns the
            replacement, or raises `pickle.UnpicklingError`.
        encoding: encoding of the byte strings of Python 2; see `pickle.Unpickler`.
        persistent_load: called with each reference to something outside the pickle; default: such a pickle is broken.

    Raises:
        pickle.UnpicklingError, ValueError, EOFError, ... (`BROKEN`): a broken pickle.
    """
    check_program(file)
    return _RestrictedUnpickler(file, resolve, encoding, persistent_load).load()


class Function:
    """A function that is handed to a pickle, wrapped so that the pickle cannot change its attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._function(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        """Reject what an instruction of a pickle would set."""
        if hasattr(self, "_function"):
            raise pickle.UnpicklingError("a pickle tried to change the reader")
        super().__setattr__(name, value)

    def __setstate__(self, state: Any) -> None:
        """Reject what an instruction of a pickle would set."""
        raise pickle.UnpicklingError("a pickle tried to change the reader")


def check_program(file: BinaryIO) -> None:
    """Walk over the pickle at the position of `file` without running it, then seek back to its start.

    Each instruction is read completely, so that none can claim more bytes than there are. The memo is a table that
    the unpickler makes as long as the largest index in it; an index may not exceed the number of instructions before.

    Raises:
        pickle.UnpicklingError: an index of the memo beyond that.
        ValueError, EOFError: a broken pickle.
    """
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _MEMO_WRITES and not (isinstance(argument, int) and 0 <= argument <= count):
            raise pickle.UnpicklingError(f"instruction {count} writes index {argument} of the memo")
    file.seek(start)


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(
        self,
        file: BinaryIO,
        resolve: Callable[[str, str], Any],
        encoding: str,
        persistent_load: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._resolve, self._persistent_load = resolve, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """Return what `resolve` does, where pickle's own would import `module`."""
        return self._resolve(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Return the object that a reference to something outside the pickle means."""
        if self._persistent_load is None:
            raise pickle.UnpicklingError("a reference to something outside the pickle")
        return self._persistent_load(pid)
