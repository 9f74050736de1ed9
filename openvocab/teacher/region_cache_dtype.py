"""The dtype of a region cache whose teacher has `dtype="auto"`: decided once per folder, for all processes and runs."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from openvocab.files.atomic_files import temporary_sibling
from openvocab.process.bfloat16_probe import dtype_name, faster_dtype
from openvocab.teacher.region_shard import read_header

logger = logging.getLogger(__name__)

_DECISION = "teacher_dtype.txt"


def settle_cache_dtype(teacher: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a config's `teacher` with the dtype of its cache instead of "auto".

    Embeddings of two dtypes differ, so that "auto" is the dtype of the shards in the folder; without any, it is the one
    that the first process finds faster and writes there for the others.

    Args:
        teacher: config of the teacher, with the `folder` of its cache.
        device: device that computes the embeddings.
    """
    if teacher.get("dtype") != "auto":
        return dict(teacher)
    folder = Path(teacher["folder"])
    dtype = _dtype_of_shards(folder) or _read_decision(folder)
    if dtype is None:
        dtype = _decide(folder, dtype_name(faster_dtype(device, "regions are embedded")))
    else:
        logger.info(f"regions are embedded in {dtype}, like those that are already in {folder}")
    return {**teacher, "dtype": dtype}


def _dtype_of_shards(folder: Path) -> str | None:
    """Return the dtype of the first readable shard, None without any."""
    headers = map(read_header, sorted(folder.glob("regions-*.safetensors")))
    return next((header["description"]["teacher"]["dtype"] for header in headers if header is not None), None)


def _read_decision(folder: Path) -> str | None:
    """Return the dtype that a process has written, None if none has."""
    try:
        return (folder / _DECISION).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _decide(folder: Path, dtype: str) -> str:
    """Write `dtype` for other processes, unless one of them was faster; return the dtype of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _DECISION
    with temporary_sibling(path, lambda temporary: temporary.write_text(dtype, encoding="utf-8")) as temporary:
        try:
            os.link(temporary, path)  # atomic, and fails if the file exists
        except FileExistsError:
            pass
        except (
            OSError
        ):  # a file system without hard links: if two processes write at once, the check of the cache stops one
            path.write_text(dtype, encoding="utf-8")
    return path.read_text(encoding="utf-8")
