"""CIFAR-10 and CIFAR-100 from the archives of their authors ("python version")."""

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from openvocab.argument_checks import check_choice, check_paths
from openvocab.datasets.base import PipelineDataset, Transform
from openvocab.datasets.files.safe_pickle import read_plain_pickle
from openvocab.datasets.shards.tar_shards import UNREADABLE_ARCHIVE
from openvocab.datasets.transforms import PackSample
from openvocab.datasets.transforms.results import Results
from openvocab.files.file_values import whole_number
from openvocab.registry import DATASETS
from openvocab.vocabulary.vocabulary import Vocabulary

SIZE = 32


@dataclass(frozen=True)
class _Archive:
    """The layout of one of the archives, and the MD5 of each file as published by the authors."""

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: dict[str, tuple[bytes, bytes]]
    """By granularity: the keys of the labels and of their names."""
    md5: dict[str, str]


_ARCHIVES = {
    10: _Archive(
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        meta="batches.meta",
        labels={"fine": (b"labels", b"label_names")},
        md5={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    100: _Archive(
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        meta="meta",
        labels={"fine": (b"fine_labels", b"fine_label_names"), "coarse": (b"coarse_labels", b"coarse_label_names")},
        md5={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
}


@DATASETS.register_module()
class CifarDataset(PipelineDataset):
    """The 32 x 32 images of CIFAR with one class each, kept in memory.

    The files are pickles; they are read without executing any code in them.

    Args:
        path: the archive (`cifar-10-python.tar.gz`, `cifar-100-python.tar.gz`), or the folder it was unpacked into.
        num_classes: 10 for CIFAR-10, 100 for CIFAR-100.
        part: "train" (50,000 images) or "test" (10,000).
        pipeline: transforms; default: the image as it is. `LoadImage` may be omitted.
        root: prefix of a relative `path`.
        labels: "coarse" gives the 20 superclasses of CIFAR-100.
        verify: compare the MD5 of each file with the published one; False for files of your own in this format.
        test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: no such archive or folder, or a file missing in it.
        ValueError: a wrong MD5, malformed content, or an unknown choice.

    Reference:
        Learning Multiple Layers of Features from Tiny Images, Krizhevsky 2009.
    """

    def __init__(
        self,
        path: str | Path,
        num_classes: int,
        part: Literal["train", "test"],
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        labels: Literal["fine", "coarse"] = "fine",
        verify: bool = True,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(path=path, root=root)
        super().__init__(
            [PackSample()] if pipeline is None else pipeline,
            test_mode=test_mode,
            name=name or f"{Path(path).name}/{part}",
        )
        num_classes = whole_number(num_classes, "num_classes")
        if num_classes not in _ARCHIVES:
            raise ValueError(f"num_classes: expected 10 or 100 (which CIFAR), got {num_classes}")
        check_choice("part", part, ("train", "test"))
        self.archive = _ARCHIVES[num_classes]
        if labels not in self.archive.labels:
            raise ValueError(f"labels: CIFAR-{num_classes} has {sorted(self.archive.labels)}, got {labels!r}")
        self.path, self.part, self.labels, self.verify = Path(root) / path, part, labels, verify
        self._images = torch.zeros(0, 3 * SIZE**2, dtype=torch.uint8)
        """(N, 3072) RGB planes of the part, once the index is loaded."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The names that come with the images."""
        content = self._read([self.archive.meta])[0]
        names = content.get(self.archive.labels[self.labels][1])
        if not isinstance(names, list) or not all(isinstance(name, (bytes, str)) for name in names):
            raise ValueError(f"{self.path}: {self.archive.meta} holds no list of names")
        texts = [name.decode() if isinstance(name, bytes) else name for name in names]
        vocabulary = Vocabulary.from_names(texts)
        vocabulary.digest  # noqa: B018  computed once here, it travels with every sample
        return vocabulary

    def load_index(self) -> list[dict[str, Any]]:
        """Read all images of the part into memory that loader workers share; list their labels."""
        names = self.archive.train if self.part == "train" else self.archive.test
        batches = [self._checked(content, name) for name, content in zip(names, self._read(names))]
        self._images = torch.from_numpy(np.concatenate([pixels for pixels, _ in batches])).share_memory_()
        labels = [label for _, of_batch in batches for label in of_batch]
        return [
            {"sample_id": f"{self.part}/{number:05d}", "number": number, "class_ids": (label,)}
            for number, label in enumerate(labels)
        ]

    def start_results(self, item: dict[str, Any]) -> Results:
        """Add the image, (32, 32, 3) uint8 BGR."""
        planes = self._images[item["number"]].numpy().reshape(3, SIZE, SIZE)
        image = np.ascontiguousarray(planes[::-1].transpose(1, 2, 0))  # RGB planes -> (H, W, BGR)
        size = image.shape[:2]
        return {**super().start_results(item), "img": image, "ori_shape": size, "img_shape": size}

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary."""
        return {"vocabulary": self.vocabulary}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name, class names and the digest of the vocabulary."""
        names = list(self.vocabulary.class_names)
        return {"dataset": self.name, "classes": names, "vocabulary_digest": self.vocabulary.digest}

    def _checked(self, content: Any, name: str) -> tuple[np.ndarray, list[int]]:
        """Return the pixels (N, 3072) uint8, RGB planes, and the N labels of one file."""
        key = self.archive.labels[self.labels][0]
        pixels, labels = (content.get(b"data"), content.get(key)) if isinstance(content, dict) else (None, None)
        expected = f"{self.path}: {name}: expected uint8 data (N, {3 * SIZE**2}) and N {key.decode()}"
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * SIZE**2:
            raise ValueError(f"{expected}, data is {getattr(pixels, 'shape', type(pixels).__name__)}")
        if not isinstance(labels, list) or len(labels) != len(pixels):
            raise ValueError(f"{expected}, got {len(labels) if isinstance(labels, list) else 'no'} labels")
        classes = len(self.vocabulary)
        wrong = [label for label in labels if not (isinstance(label, int) and 0 <= label < classes)]
        if wrong:
            raise ValueError(f"{self.path}: {name}: label {wrong[0]!r} is none of the {classes} classes")
        return pixels, labels

    def _read(self, names: Sequence[str]) -> list[Any]:
        """Return the content of files of the archive."""
        contents = self._bytes_in_folder(names) if self.path.is_dir() else self._bytes_in_archive(names)
        for name, content in contents.items():
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if self.verify and digest != self.archive.md5[name]:
                raise ValueError(
                    f"{self.path}: {name} has the MD5 {digest}, expected {self.archive.md5[name]}: download it again "
                    "(verify=False accepts files of your own)"
                )
        try:
            return [read_plain_pickle(contents[name]) for name in names]
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error

    def _bytes_in_folder(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the content of each file of an unpacked archive."""
        inner = self.path / self.archive.folder
        folder = inner if inner.is_dir() else self.path
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder} has no file {missing[0]!r}; expected an unpacked CIFAR archive")
        return {name: (folder / name).read_bytes() for name in names}

    def _bytes_in_archive(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the content of each file of a packed archive."""
        if not self.path.is_file():
            raise FileNotFoundError(f"path: no archive or folder {self.path}; download CIFAR's python version")
        name_of_member = {f"{self.archive.folder}/{name}": name for name in names}
        contents: dict[str, bytes] = {}
        try:
            with tarfile.open(self.path) as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isreg() and member.name in name_of_member else None
                    if file is not None:
                        contents[name_of_member[member.name]] = file.read()
        except UNREADABLE_ARCHIVE as error:
            raise ValueError(f"{self.path}: not a complete tar archive: {' '.join(str(error).split())}") from error
        missing = [name for name in names if name not in contents]
        if missing:
            raise FileNotFoundError(f"{self.path} has no file {self.archive.folder}/{missing[0]}")
        return contents
