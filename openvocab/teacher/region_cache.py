"""A folder with the regions of all images of a dataset, which training loads."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openvocab.files.text_files import read_json
from openvocab.structures import Regions, Size
from openvocab.teacher.region_shard import FORMAT, OLD_FORMAT, RegionShard, damaged

MANIFEST = "regions.json"
NAMES_IN_MESSAGE = 5
NOT_READ: Size = (0, 0)
"""Size of an image that could not be read when the cache was written."""


class RegionCache:
    """A cache that `tools/cache_region_embeddings.py` has written.

    A shard is memory-mapped and compared with its checksum when it is first needed, in each process separately: a cache
    can be sent to loader workers.

    Args:
        folder: folder of the cache.

    Raises:
        FileNotFoundError: no finished cache in the folder.
        ValueError: a file of it is missing, damaged or of an older format; the message names it and how to repair it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"no finished region cache in {folder}; run tools/cache_region_embeddings.py CONFIG"
            )
        manifest = _read_manifest(path)
        self.description: dict[str, Any] = manifest["description"]
        self._files = [self.folder / shard["file"] for shard in manifest["shards"]]
        self._ids = [shard["sample_ids"] for shard in manifest["shards"]]
        for file, shard in zip(self._files, manifest["shards"]):
            if not file.is_file() or file.stat().st_size != shard["bytes"]:
                raise ValueError(damaged(file))
        self._positions = {
            sample_id: (number, row)
            for number, shard in enumerate(manifest["shards"])
            for row, sample_id in enumerate(shard["sample_ids"])
        }
        self._shards: dict[tuple[int, int], RegionShard] = {}

    @property
    def teacher_dtype(self) -> str:
        """The dtype that the teacher computed in."""
        return self.description["teacher"]["dtype"]

    def check_settings(self, facts: Mapping[str, Any]) -> None:
        """Check that the cache was made with the settings of a config.

        Args:
            facts: facts of a `RegionEmbedder`.

        Raises:
            ValueError: they differ; the message names the first difference.
        """
        facts = json.loads(json.dumps(facts))  # like those of the cache: tuples become lists
        difference = first_difference({key: self.description[key] for key in facts}, facts)
        if difference:
            raise ValueError(
                f"the region cache {self.folder} is stale or from another teacher: {difference}; "
                "give the config another folder, or remove this one, and run tools/cache_region_embeddings.py"
            )

    def check_images(self, sample_ids: Iterable[str]) -> None:
        """Check that all images are in the cache.

        Raises:
            ValueError: images are missing; the message states their number and the first ids.
        """
        missing = [sample_id for sample_id in sample_ids if sample_id not in self._positions]
        if missing:
            names = ", ".join(missing[:NAMES_IN_MESSAGE]) + ", ..." * (len(missing) > NAMES_IN_MESSAGE)
            raise ValueError(
                f"the region cache {self.folder} lacks {len(missing)} images of the dataset: {names}; "
                "it was made from another dataset: give the config another folder and run "
                "tools/cache_region_embeddings.py"
            )

    def regions(self, sample_id: str, size: Size) -> Regions:
        """Return the N regions of one image, in its original frame.

        Args:
            sample_id: id of the image.
            size: its present (height, width).

        Raises:
            ValueError: an image that the cache lacks, or whose size has changed; a shard that is damaged or of another
                cache.
        """
        self.check_images([sample_id])
        number, row = self._positions[sample_id]
        shard = self._shard(number)
        if shard.size(row) != tuple(size):
            raise ValueError(f"{sample_id}: {_other_size(shard.size(row), size, self.folder)}")
        return shard.regions(row)

    def _shard(self, number: int) -> RegionShard:
        """Return a shard, which is opened at its first use in this process."""
        key = os.getpid(), number
        if key not in self._shards:
            expected = {"description": self.description, "sample_ids": self._ids[number]}
            self._shards[key] = RegionShard(self._files[number], expected)
        return self._shards[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": {}}


def manifest_text(description: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> str:
    """Return the content of a manifest, with its checksum.

    Args:
        description: description of the embedder and the images.
        shards: the "file", "bytes" and "sample_ids" of each.
    """
    content = {"format": FORMAT, "description": description, "shards": shards}
    return json.dumps({**content, "checksum": _checksum(content)}, indent=1)


def _read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check it; a damaged or old one is a `ValueError` that states what to do."""
    try:
        manifest = read_json(path)
    except ValueError as error:
        raise ValueError(damaged(path)) from error
    if not isinstance(manifest, dict):
        raise ValueError(damaged(path))
    if manifest.get("format") == OLD_FORMAT:
        raise ValueError(
            f"{path} is of an older version, without checksums; run tools/cache_region_embeddings.py again: it "
            "rewrites the files"
        )
    checksum = manifest.pop("checksum", None)
    if manifest.get("format") != FORMAT or checksum != _checksum(manifest):
        raise ValueError(damaged(path))
    return manifest


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def first_difference(cached: Any, configured: Any, path: str = "") -> str:
    """Return one line on the first difference of two nested dicts of plain values, "" if they are equal."""
    if isinstance(cached, Mapping) and isinstance(configured, Mapping):
        for key in {**cached, **configured}:
            difference = first_difference(cached.get(key), configured.get(key), f"{path}.{key}".lstrip("."))
            if difference:
                return difference
        return ""
    if cached == configured:
        return ""
    return f"{path} is {_short(cached)} in the cache, {_short(configured)} in the config"


def _short(value: Any) -> str:
    """Return the text of a value; of a SHA-256 digest only the first letters."""
    return repr(value if not (isinstance(value, str) and len(value) == 64) else value[:12])


def _other_size(cached: Size, size: Size, folder: Path) -> str:
    """Return the message for an image whose size differs from that in the cache."""
    now = f"the image is {size[0]}x{size[1]} (height x width)"
    if cached == NOT_READ:
        return f"{now}, but could not be read when {folder} was written; remove that folder and write it again"
    return (
        f"{now}, but was {cached[0]}x{cached[1]} when {folder} was written: "
        "LoadRegions must come before all geometric transforms; if it does, the image has changed: write the cache "
        "again"
    )
