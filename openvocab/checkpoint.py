"""Checkpoints: whole or not at all, checked, and never able to run code.

The only `torch.load` of the package stands here, and it reads tensors and plain types alone. A checkpoint is written to
a temporary file, forced to the disk and renamed, with its SHA-256 inside (`checkpoint_seal.py`).
"""

import logging
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openvocab.checkpoint_seal import FORMAT, CheckpointCorrupt, check_seal, digest_of, seal
from openvocab.foreign_checkpoint import read_tensors

logger = logging.getLogger(__name__)

_TEMPORARY = ".saving"


class UnsafeCheckpoint(ValueError):
    """The file holds more than tensors and plain types; nothing of it was run."""


class SaveFailed(OSError):
    """A checkpoint could not be written; the earlier file of that name is untouched."""


def save_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write `content` to `path`, whole or not at all.

    Args:
        content: tensors, numbers, strings, None, and dicts, lists and tuples of them.

    Raises:
        TypeError: another type inside, with its place.
        SaveFailed: the disk is full or cannot be written; the message says what was needed and what is free.
    """
    path = Path(path)
    content = {"format": FORMAT, **{key: to_plain(value, key) for key, value in content.items()}}
    temporary = path.with_name(f"{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        _remove_leftovers(path.parent)
        with open(temporary, "w+b") as file:
            torch.save(content, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise SaveFailed(_failure(path, content, error)) from error


def link_checkpoint(source: Path, target: Path) -> None:
    """Let `target` name the file `source`, replacing what it named before in one step.

    Raises:
        SaveFailed: the disk is full or cannot be written.
    """
    temporary = target.with_name(f"{target.name}.{os.getpid()}{_TEMPORARY}")
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SaveFailed(f"cannot write {target}: {error}") from error


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint that holds tensors and plain types.

    Raises:
        FileNotFoundError: no such file.
        CheckpointCorrupt: the digest differs, or the file is cut off; the message names both digests.
        UnsafeCheckpoint: it holds other objects, which were not built.
    """
    path = Path(path)
    sealed = check_seal(path)
    with open(path, "rb") as file:
        _check_archive(path, file)
        try:
            content = torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UnsafeCheckpoint(_unsafe(path)) from error
        except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
            raise _corrupt(path, "unreadable", str(error)) from error
    _require_seal(content, sealed, path)
    return content


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of any file: safetensors, our own, or a foreign pickle (Lightning, apex, mmdet, TorchScript).

    Foreign classes become inert placeholders; nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        CheckpointCorrupt: the file cannot be read.
        ValueError: it holds no tensors by name; the message lists its keys.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    sealed = check_seal(path)
    try:
        content = read_tensors(path)
    except (ValueError, EOFError, KeyError, TypeError, IndexError, RuntimeError, pickle.UnpicklingError) as error:
        raise _corrupt(path, "unreadable", str(error)) from error
    _require_seal(content, sealed, path)
    return _find_weights(content, path)


def newest_valid_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest whole file of a work dir, None if there is none; say which ones had to be passed over."""
    work_dir = Path(work_dir)
    numbered = sorted(work_dir.glob("iter_*.pth"), key=iteration_of, reverse=True)
    stable = [work_dir / name for name in ("last.pth", "best.pth") if (work_dir / name).exists()]
    skipped = []
    for path in [*numbered, *stable]:
        try:
            load_checkpoint(path, map_location="meta")
        except (CheckpointCorrupt, UnsafeCheckpoint, OSError) as error:
            logger.warning(f"passed over: {error}")
            skipped.append(path.name)
            continue
        if skipped:
            note = f"went back to {path}, because of damage to {', '.join(skipped)}"
            logger.warning(note)
        return path
    return None


def check_same_weights(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], source: str) -> None:
    """Check that names and shapes agree.

    Raises:
        ValueError: with a list of what is missing, unexpected or of another shape.
    """
    rows = [f"missing {name}" for name in expected if name not in actual]
    rows += [f"unexpected {name}" for name in actual if name not in expected]
    rows += [
        f"{name}: model {tuple(value.shape)}, file {tuple(actual[name].shape)}"
        for name, value in expected.items()
        if name in actual and value.shape != actual[name].shape
    ]
    if rows:
        more = f"; and {len(rows) - 10} more" if len(rows) > 10 else ""
        raise ValueError(f"{source} does not fit the model, nothing was loaded: {'; '.join(rows[:10])}{more}")


def to_plain(value: Any, place: str = "value") -> Any:
    """Return `value` with dicts, lists, tuples, numbers, strings and tensors alone, tensors on the CPU.

    Raises:
        TypeError: another type, with its place.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {_plain_key(key, place): to_plain(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [to_plain(item, f"{place}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, (Path, str)):
        return str(value)
    raise TypeError(f"{place}: checkpoints hold tensors and plain types, got {type(value).__name__}")


def _plain_key(key: Any, place: str) -> str | int:
    if isinstance(key, (str, int)):
        return key
    raise TypeError(f"{place}: keys are strings or integers, got {type(key).__name__}")


def _require_seal(content: Any, sealed: bool, path: Path) -> None:
    """Files of ours always carry a digest: its absence is damage. Foreign files have none."""
    if not sealed and isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise _corrupt(path, "no digest at its end")


def _check_archive(path: Path, file: Any) -> None:
    """Let only the zip format of torch pass: older formats and TorchScript go through the tensors-only reader."""
    try:
        names = zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        file.seek(0)
        if file.read(2)[:1] == b"\x80":  # a bare pickle, torch's format before 1.6
            raise UnsafeCheckpoint(_unsafe(path)) from error
        raise _corrupt(path, "not a whole archive", str(error)) from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise UnsafeCheckpoint(f"{path} is a TorchScript program; load_state_dict reads its weights")
    file.seek(0)


def _unsafe(path: Path) -> str:
    return (
        f"{path} holds objects other than tensors and plain types; they were not loaded. "
        "Read its weights with openvocab.checkpoint.load_state_dict, or convert it with tools/convert_checkpoint.py"
    )


def _corrupt(path: Path, what: str, detail: str = "") -> CheckpointCorrupt:
    with open(path, "rb") as file:
        actual = digest_of(file, None)
    detail = f" ({' '.join(detail.split())[:200]})" if detail else ""
    return CheckpointCorrupt(
        f"{path} is damaged: {what}{detail}; expected SHA-256: none found at its end, "
        f"actual of its {path.stat().st_size} bytes: {actual}"
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _corrupt(path, "unreadable", str(error)) from error


def _find_weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Pick the named tensors, at the top or under one of the usual keys."""
    if isinstance(content, Mapping):
        for key in ("state_dict", "model_state_dict", "model", "module"):
            if isinstance(content.get(key), Mapping):
                return _find_weights(content[key], path)
        weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if weights:
            return weights
    keys = list(content)[:10] if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"{path} holds no tensors by name; at its top: {keys}")


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(path: Path, content: Any, error: Exception) -> str:
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    reason = " ".join(str(_first_cause(error)).split())[:200]
    return f"cannot write {path}: {reason}; needed about {_size(content)} bytes, free {free} bytes"


def _first_cause(error: BaseException) -> BaseException:
    while error.__context__ is not None:
        error = error.__context__
    return error


def _size(content: Any) -> int:
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    parts: Callable[[], Any] = content.values if isinstance(content, Mapping) else lambda: content
    return sum(map(_size, parts())) if isinstance(content, (Mapping, list, tuple)) else 0


def iteration_of(path: Path) -> int:
    """Return the number in `iter_N.pth`, -1 without one."""
    digits = re.sub(r"\D", "", path.stem)
    return int(digits) if digits else -1
