"""What the tools share: a user's mistake is one line and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from openvocab.checkpoint import SaveFailed
from openvocab.finite_guard import NonFiniteError

_MISTAKES = (OSError, ValueError, TypeError, KeyError, ImportError)
_FAILURES = (NonFiniteError, SaveFailed)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on stderr: exit code 2 for a user's mistake, 1 for a run that failed.

    With OPENVOCAB_TRACEBACK=1 the error passes through with its traceback.
    """
    try:
        yield
    except (*_MISTAKES, *_FAILURES) as error:
        if os.environ.get("OPENVOCAB_TRACEBACK") == "1":
            raise
        sys.stderr.write(f"error: {_one_line(error)} (OPENVOCAB_TRACEBACK=1 shows where)\n")
        sys.exit(1 if isinstance(error, _FAILURES) else 2)


def _one_line(error: BaseException) -> str:
    # str() of a KeyError is the repr of its message
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if text.startswith("Caught ") and " in DataLoader worker " in text:  # then the original traceback, as text
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
