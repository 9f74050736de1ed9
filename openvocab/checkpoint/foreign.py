"""Read the tensors of checkpoints that other programs wrote, executing nothing.

Every class or function that such a pickle refers to is replaced: by our own function that rebuilds a tensor, or by a
placeholder class that ignores its arguments, calls and state. The reader supports torch's zip format (also
TorchScript's, whose tree of modules it keeps) and the format of torch before 1.6.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from openvocab.files.restricted_pickle import Function, load_restricted

Storage = Callable[[torch.dtype, str, int], Tensor]
"""Called with the dtype, key and number of elements of a tensor's storage; returns it as a flat tensor."""
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


def read_tensors(path: str | Path) -> Any:
    """Return the content of a pickled checkpoint: dicts, lists, tuples, plain values and tensors (on the CPU).

    Objects of any other class become `Placeholder`s. A TorchScript program becomes the flat dict of its tensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of torch.
        pickle.UnpicklingError, EOFError, KeyError, RuntimeError, ... (`restricted_pickle.BROKEN`): a broken file.
    """
    with open(path, "rb") as file:
        if zipfile.is_zipfile(file):
            return _read_archive(file, Path(path))
        file.seek(0)
        if file.read(1) != b"\x80":
            raise ValueError(f"{path} is neither a zip archive nor a pickle")
        file.seek(0)
        return _read_legacy(file, Path(path))


class Placeholder:
    """Replaces an object of a class that is not rebuilt: accepts every call and keeps nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Placeholder":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Ignore the arguments."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Placeholder":
        """Do nothing."""
        return self

    def __setstate__(self, state: Any) -> None:
        """Keep nothing."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep nothing."""

    def append(self, item: Any) -> None:
        """Keep nothing."""

    def extend(self, items: Any) -> None:
        """Keep nothing."""

    def add(self, item: Any) -> None:
        """Keep nothing."""


class _ScriptModule(Placeholder):
    """A module of a TorchScript program: keeps its attributes as data."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _resolve(module: str, name: str) -> Any:
    """Return what replaces a name in a checkpoint: a plain type, a rebuild function or a new placeholder class."""
    if module == "collections" and name == "OrderedDict":
        return OrderedDict
    if module in ("torch", "torch.storage", "torch.cuda") and name in _STORAGE_DTYPES:
        return _STORAGE_DTYPES[name]
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if module == "torch" and name == "Size":
        return Function(tuple)
    if module == "torch._utils" and name in _REBUILD:
        return Function(_REBUILD[name])
    if module == "torch.jit._pickle":
        return Function(_first)
    base = _ScriptModule if module.startswith("__torch__") else Placeholder
    return type(name.rpartition(".")[2], (base,), {})


def _resolve_plain(module: str, name: str) -> Any:
    """Return what replaces a name in a checkpoint that may hold only tensors and plain values.

    Raises:
        pickle.UnpicklingError: the name is that of another class, which only a placeholder could replace.
    """
    resolved = _resolve(module, name)
    if isinstance(resolved, type) and issubclass(resolved, Placeholder):
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")
    return resolved


def _load(file: BinaryIO, storage: Storage, resolve: Callable[[str, str], Any] = _resolve) -> Any:
    """Load one pickle of a checkpoint; `storage` returns the numbers that it refers to."""

    def persistent_load(pid: Any) -> Any:
        if pid[0] == "module":  # torch before 1.6 stores the source code of modules next to their class
            return pid[1]
        kind, dtype, key, _, numel, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        return storage(dtype, str(key), int(numel))

    # pickles of Python 2 hold byte strings
    return load_restricted(file, resolve, encoding="latin1", persistent_load=persistent_load)


def check_plain(file: BinaryIO) -> None:
    """Check that an archive of torch holds only tensors and plain values, then seek back to its start.

    Its pickle is loaded with tensors that hold no numbers. torch's own `weights_only` reader also accepts names that
    allocate as much memory as the file states (`bytearray`, storages, `torch.Tensor` by its size).

    Raises:
        pickle.UnpicklingError: it holds something else.
        ValueError, EOFError, KeyError, ... (`restricted_pickle.BROKEN`), RuntimeError: a broken file.
    """
    archive = zipfile.ZipFile(file)
    pickles = _main_pickles(archive.namelist())
    if len(pickles) != 1:
        raise ValueError("it has no data.pkl, or several")

    def storage(dtype: torch.dtype, _: str, numel: int) -> Tensor:
        return torch.empty(numel, dtype=dtype, device="meta")

    _load(io.BytesIO(archive.read(pickles[0])), storage, _resolve_plain)
    file.seek(0)


def _rebuild_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor:
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)  # checks the bounds


def _rebuild_typed_tensor(storage: Tensor, offset: int, size: tuple, stride: tuple, _: Any, __: Any, dtype: Any) -> Any:
    return _rebuild_tensor(storage.view(dtype), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    return value


_REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_tensor_v3": _rebuild_typed_tensor,
    "_rebuild_parameter": _first,
    "_rebuild_parameter_with_state": _first,
}


def _main_pickles(names: Sequence[str]) -> list[str]:
    """Return the members of an archive that may be its main pickle."""
    return [name for name in names if name.endswith("data.pkl") and name.count("/") <= 1]


def _read_archive(file: BinaryIO, path: Path) -> Any:
    archive = zipfile.ZipFile(file)
    members = {member.filename: member for member in archive.infolist()}
    names = list(members)
    pickles = _main_pickles(names)
    if len(pickles) != 1:
        raise ValueError(f"{path} is a zip archive, but not a checkpoint of torch: it has no data.pkl")
    folder = pickles[0][: -len("data.pkl")]
    remaining = path.stat().st_size

    def read(name: str) -> bytes:
        nonlocal remaining
        check_stored(members[name])
        remaining -= members[name].file_size
        if remaining < 0:  # overlapping members would be read twice
            raise EOFError("its tensors have more numbers than the file")
        return archive.read(members[name])

    if f"{folder}byteorder" in names and read(f"{folder}byteorder") != b"little":
        raise ValueError(f"{path} was written on a big-endian machine; save it again on a little-endian one")
    blocks: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, numel: int) -> Tensor:
        if key not in blocks:
            blocks[key] = _block(read(f"{folder}data/{key}"))
        return blocks[key].view(dtype)[:numel]

    content = _load(io.BytesIO(read(pickles[0])), storage)
    return _flatten(content) if isinstance(content, _ScriptModule) else content


def check_stored(member: zipfile.ZipInfo) -> None:
    """Check that a member of an archive is not compressed.

    Raises:
        ValueError: it is compressed, which torch never does; a few bytes could expand to any size.
    """
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its member {member.filename} is compressed, which torch never does")


def _block(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _read_legacy(file: BinaryIO, path: Path) -> Any:
    """Read five pickles (magic, version, system, content, order of the storages), then the storages."""
    remaining = path.stat().st_size
    blocks: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, numel: int) -> Tensor:
        nonlocal remaining
        if key not in blocks:
            remaining -= numel * dtype.itemsize
            if numel < 0 or remaining < 0:
                raise EOFError("its tensors have more numbers than the file")
            blocks[key] = torch.empty(numel, dtype=dtype)
        return blocks[key]

    magic = _load(file, storage)
    if magic != _LEGACY_MAGIC:
        raise ValueError(f"{path} is a pickle, but not a checkpoint of torch")
    for _ in ("version", "system"):
        _load(file, storage)
    content = _load(file, storage)
    for key in _load(file, storage):
        _fill(file, blocks[str(key)])
    return content


def _fill(file: BinaryIO, block: Tensor) -> None:
    numel = int.from_bytes(file.read(8), "little")
    if numel != block.numel():
        raise ValueError(f"a storage has {numel} numbers, expected {block.numel()}")
    data = _block(file.read(numel * block.itemsize))
    block.copy_(data.view(block.dtype))


def _flatten(module: _ScriptModule, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a module tree by their dotted names."""
    tensors: dict[str, Tensor] = {}
    attributes: Mapping[str, Any] = getattr(module, "attributes", {})
    for name, value in attributes.items():
        if isinstance(value, _ScriptModule):
            tensors.update(_flatten(value, f"{prefix}{name}."))
        elif isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value
    return tensors
