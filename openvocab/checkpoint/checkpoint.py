"""Write and read checkpoints: atomically, checked, and without running code.

This is the only module that calls `torch.load`, and only for tensors and plain types. A checkpoint is written to a
temporary file, with its SHA-256 at the end (`seal.py`), flushed to the disk and renamed.
"""

import logging
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from openvocab.checkpoint.foreign import check_plain, check_stored, read_tensors
from openvocab.checkpoint.seal import FORMAT, CheckpointCorrupt, check_seal, digest_of, seal
from openvocab.failures import RunFailed
from openvocab.files.atomic_files import put_in_place, replacing, temporary_sibling
from openvocab.files.restricted_pickle import BROKEN

logger = logging.getLogger(__name__)


class UnsafeCheckpoint(ValueError):
    """The file holds more than tensors and plain types; nothing in it was run."""


class SaveFailed(RunFailed, OSError):
    """A checkpoint could not be written; the earlier file of that name is untouched."""


def save_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write `content` to `path`, completely or not at all.

    Args:
        content: tensors, numbers, strings, None, and dicts, lists and tuples of them.
        path: an existing file is replaced.

    Raises:
        TypeError: a value has another type; the message names its key.
        SaveFailed: the disk is full or cannot be written; the message states the needed and the free bytes.
    """
    path = Path(path)
    content = {"format": FORMAT, **{key: to_plain(value, key) for key, value in content.items()}}
    try:
        with replacing(path, "w+b") as file:
            torch.save(content, file)
            seal(file)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        raise SaveFailed(_failure(path, content, error)) from error


def link_checkpoint(source: Path, target: Path) -> None:
    """Make `target` a link to the file `source`, replacing an existing one in one step.

    Raises:
        SaveFailed: the disk is full or cannot be written.
    """
    try:
        with temporary_sibling(target, partial(_link_or_copy, source)) as temporary:
            put_in_place(temporary, target)
    except OSError as error:
        raise SaveFailed(f"cannot write {target}: {error}") from error


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint that holds tensors and plain types.

    Raises:
        FileNotFoundError: no such file.
        CheckpointCorrupt: the digest differs, or the file is truncated; the message states both digests.
        UnsafeCheckpoint: it holds other objects, none of which was built.
    """
    path = Path(path)
    sealed = check_seal(path)
    with open(path, "rb") as file:
        _check_archive(path, file)
        try:
            check_plain(file)
            content = torch.load(file, map_location=map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            raise UnsafeCheckpoint(_unsafe(path)) from error
        except (*BROKEN, RuntimeError, OSError) as error:
            raise _corrupt(path, "unreadable", str(error)) from error
    _require_seal(content, sealed, path)
    return content


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the weights in any file: safetensors, our own, or a foreign pickle (Lightning, apex, mmdet, TorchScript).

    Foreign classes become placeholders without behavior; nothing in the file is executed.

    Raises:
        FileNotFoundError: no such file.
        CheckpointCorrupt: the file cannot be read.
        ValueError: it holds no named tensors; the message lists its keys.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return _load_safetensors(path)
    sealed = check_seal(path)
    try:
        content = read_tensors(path)
    except (*BROKEN, RuntimeError, zipfile.BadZipFile) as error:
        raise _corrupt(path, "unreadable", str(error)) from error
    _require_seal(content, sealed, path)
    return _find_weights(content, path)


def newest_valid_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest checkpoint of a work dir that a run can resume from, None if there is none.

    Such a checkpoint is undamaged and holds a training state. The log states which others were skipped, and why.
    """
    skipped = []
    for path in checkpoints_of(Path(work_dir)):
        try:
            check_training_state(load_checkpoint(path, map_location="meta"), str(path))
        except (ValueError, OSError) as error:
            logger.warning(f"skipped: {error}")
            skipped.append(path.name)
            continue
        if skipped:
            logger.warning(f"fell back to {path}, since {', '.join(skipped)} cannot be resumed from")
        return path
    return None


def checkpoints_of(work_dir: Path) -> list[Path]:
    """Return the checkpoints of a training run, in the order in which they are tried when it resumes.

    These are `iter_N.pth`, the largest N first, then `last.pth` and `best.pth`. A copy such as `iter_4_old.pth` is not
    among them.
    """
    numbered = [path for path in work_dir.glob("iter_*.pth") if is_numbered(path.name)]
    stable = [work_dir / name for name in ("last.pth", "best.pth") if (work_dir / name).exists()]
    return [*sorted(numbered, key=lambda path: _iteration_of(path.name), reverse=True), *stable]


def is_numbered(name: Any) -> bool:
    """Return whether `name` is that of a checkpoint of one iteration, `iter_N.pth`, without a folder."""
    return isinstance(name, str) and _iteration_of(name) >= 0


def check_training_state(content: Mapping[str, Any], source: str) -> None:
    """Check that a checkpoint holds what a run needs to resume, each part of the expected type.

    Raises:
        ValueError: some parts are missing; the message lists them.
    """
    parts = {"meta": dict, "state_dict": dict, "optimizer": dict, "loop": dict, "random_states": list}
    content = content if isinstance(content, Mapping) else {}
    missing = [key for key, expected in parts.items() if not isinstance(content.get(key), expected)]
    members: dict[str, dict[str, type]] = {
        "meta": {"iter": int},
        "optimizer": {"state": dict, "param_groups": list},
        "loop": {"draws": int},
    }
    for part, types in members.items():
        if part not in missing:
            inner = content[part]
            missing += [f"{part}.{key}" for key, expected in types.items() if not isinstance(inner.get(key), expected)]
    if missing:
        raise ValueError(
            f"{source} holds no training state ({', '.join(missing)}); to start from its weights, set load_from to it"
        )


def to_plain(value: Any, key: str = "value") -> Any:
    """Return `value` as dicts, lists, tuples, numbers, strings and tensors on the CPU.

    Args:
        value: may also hold arrays, NumPy's numbers and paths.
        key: name of the value, for messages.

    Raises:
        TypeError: it has another type; the message names its key.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {_plain_key(name, key): to_plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [to_plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, (Path, str)):
        return str(value)
    raise TypeError(f"{key}: checkpoints hold tensors and plain types, got {type(value).__name__}")


def is_plain(value: Any) -> bool:
    """Return whether `to_plain` accepts a value."""
    try:
        to_plain(value)
    except TypeError:
        return False
    return True


def _plain_key(name: Any, key: str) -> str | int:
    if isinstance(name, (str, int)):
        return name
    raise TypeError(f"{key}: keys are strings or integers, got {type(name).__name__}")


def _require_seal(content: Any, sealed: bool, path: Path) -> None:
    """Check that a file in the format of this package has a digest; foreign files have none."""
    if not sealed and isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise _corrupt(path, "no digest at its end")


def _check_archive(path: Path, file: Any) -> None:
    """Check that a file has the zip format of torch; older formats and TorchScript are for `load_state_dict`."""
    try:
        members = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        file.seek(0)
        if file.read(2)[:1] == b"\x80":  # a bare pickle, torch's format before 1.6
            raise UnsafeCheckpoint(_unsafe(path)) from error
        raise _corrupt(path, "not a complete archive", str(error)) from error
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise UnsafeCheckpoint(f"{path} is a TorchScript program; load_state_dict reads its weights")
    try:
        for member in members:
            check_stored(member)
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise ValueError("its members overlap")
    except ValueError as error:
        raise _corrupt(path, "not an archive of torch", str(error)) from error
    file.seek(0)


def _unsafe(path: Path) -> str:
    return (
        f"{path} holds objects other than tensors and plain types; they were not loaded. "
        "Read its weights with openvocab.checkpoint.load_state_dict, or convert it with `openvocab convert`"
    )


def _corrupt(path: Path, what: str, detail: str = "") -> CheckpointCorrupt:
    with open(path, "rb") as file:
        actual = digest_of(file, None)
    detail = f" ({' '.join(detail.split())[:200]})" if detail else ""
    return CheckpointCorrupt(
        f"{path} is damaged: {what}{detail}; no expected SHA-256 at its end, "
        f"actual SHA-256 of its {path.stat().st_size} bytes: {actual}"
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
    """Return the named tensors, at the top level or under one of the usual keys."""
    if isinstance(content, Mapping):
        for key in ("state_dict", "model_state_dict", "model", "module"):
            if isinstance(content.get(key), Mapping):
                return _find_weights(content[key], path)
        weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        if weights:
            return weights
    keys = list(content)[:10] if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"{path} holds no named tensors; its top level has {keys}")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _failure(path: Path, content: Any, error: Exception) -> str:
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    reason = " ".join(str(_first_cause(error)).split())[:200]
    return f"cannot write {path}: {reason}; needed about {_size(content)} bytes, free {free} bytes"


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error.__context__, Exception):  # but not a signal, which only requested the save
        error = error.__context__
    return error


def _size(content: Any) -> int:
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    parts: Callable[[], Any] = content.values if isinstance(content, Mapping) else lambda: content
    return sum(map(_size, parts())) if isinstance(content, (Mapping, list, tuple)) else 0


def _iteration_of(name: str) -> int:
    """Return the number in `iter_N.pth`, -1 for any other name."""
    match = re.fullmatch(r"iter_([0-9]+)\.pth", name)
    return int(match[1]) if match else -1
