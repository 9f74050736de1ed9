"""Read pickles of plain values and byte arrays, executing nothing."""

import pickle
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from openvocab.checkpoint.pickle_programs import BROKEN, Function, check_program


def read_plain_pickle(content: bytes) -> Any:
    """Return the dicts, lists, tuples, numbers, strings, bytes and uint8 arrays of a pickle.

    A pickle may call anything that it names. Here the names that NumPy writes for an array of bytes are answered by
    functions of ours, every other one is refused. Strings of Python 2 are returned as bytes.

    Raises:
        ValueError: anything else inside, or a broken file.
    """
    try:
        check_program(BytesIO(content))
        return _finished(_PlainUnpickler(BytesIO(content), encoding="bytes").load(), {})
    except BROKEN as error:
        raise ValueError(f"not a pickle of plain values and byte arrays: {error}") from error


class _Array:
    """An array under construction."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _ByteType) or not isinstance(content, bytes):
            raise ValueError("an array of another type than uint8")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The data type uint8, the only one."""

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment: bytes have none."""


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _dtype(code: Any, align: Any = None, copy: Any = None) -> _ByteType:
    if code not in ("u1", b"u1"):
        raise ValueError(f"an array of type {code!r}; expected uint8")
    return _ByteType()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Do what Python 3 writes for bytes in old protocols."""
    if encoding not in ("latin1", b"latin1") or not isinstance(text, str):
        raise ValueError("an unexpected call of _codecs.encode")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy", "ndarray"): Function(_Array),
    ("numpy", "dtype"): Function(_dtype),
    ("_codecs", "encode"): Function(_encode),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Answer the names of arrays."""
        if (module, name) not in _KNOWN:
            raise ValueError(f"the pickle names {module}.{name}; nothing of it was run")
        return _KNOWN[module, name]


def _finished(value: Any, done: dict[int, Any]) -> Any:
    """Put the arrays in the places of their `_Array`s; `done` keeps what was met, so that nothing is walked twice."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        finished: Any = value.array
    elif isinstance(value, dict):
        finished = {key: _finished(item, done) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        finished = type(value)(_finished(item, done) for item in value)
    else:
        return value
    done[id(value)] = finished
    return finished
