"""Read pickles of plain values and byte arrays, such as CIFAR's batches, executing nothing."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from openvocab.files.restricted_pickle import BROKEN, Function, load_restricted


def read_plain_pickle(content: bytes) -> Any:
    """Return the dicts, lists, tuples, numbers, strings, bytes and uint8 arrays of a pickle.

    The functions that NumPy refers to in the pickle of a uint8 array are replaced by functions of this module; every
    other name is rejected. Strings of Python 2 are returned as bytes.

    Raises:
        ValueError: it holds anything else, or is broken.
    """
    try:
        return _with_arrays(load_restricted(BytesIO(content), _resolve, encoding="bytes"), {})
    except BROKEN as error:
        raise ValueError(f"not a pickle of plain values and byte arrays: {error}") from error


class _Array:
    """An array under construction."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Build the array from NumPy's state: (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _ByteType) or not isinstance(content, bytes):
            raise ValueError("an array whose dtype is not uint8")
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _ByteType:
    """The dtype uint8, the only one that is accepted."""

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and alignment: bytes have none."""


def _reconstruct(array_type: Any, shape: Any, type_code: Any) -> _Array:
    return _Array()


def _dtype(name: Any, align: Any = None, copy: Any = None) -> _ByteType:
    if name not in ("u1", b"u1"):
        raise ValueError(f"an array of type {name!r}; expected uint8")
    return _ByteType()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes, which Python 3 pickles in old protocols as a string and a call of `_codecs.encode`."""
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


def _resolve(module: str, name: str) -> Callable[..., Any]:
    if (module, name) not in _KNOWN:
        raise ValueError(f"the pickle refers to {module}.{name}; nothing in it was run")
    return _KNOWN[module, name]


def _with_arrays(value: Any, done: dict[int, Any]) -> Any:
    """Return `value` with each `_Array` replaced by its array; `done` maps ids to results."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, _Array):
        result: Any = value.array
    elif isinstance(value, dict):
        result = {key: _with_arrays(item, done) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        result = type(value)(_with_arrays(item, done) for item in value)
    else:
        return value
    done[id(value)] = result
    return result
