"""Transforms that add the teacher's regions to an image, from a cache or computed on the fly."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmcv.transforms import BaseTransform
from torch.utils.data import get_worker_info

from openvocab.registry import TRANSFORMS
from openvocab.structures import Regions
from openvocab.teacher.region_cache import RegionCache


@TRANSFORMS.register_module()
class LoadRegions(BaseTransform):
    """Add `regions`, boxes with embeddings, from a cache that `tools/cache_region_embeddings.py` has written.

    It comes after `LoadImage` and before all geometric transforms, which then move image and boxes alike.

    Args:
        folder: folder of the cache; default: that of `teacher`.
        teacher: the config's `teacher`, of which the cache must be: other weights, crops or proposals are an error. Its
            dtype "auto" means that of the cache. Default: the cache is not checked.

    Raises:
        FileNotFoundError: no finished cache.
        ValueError: a cache that is damaged, stale or of another teacher, or no folder.
    """

    cacheable = True

    def __init__(self, folder: str | Path | None = None, teacher: Mapping[str, Any] | None = None) -> None:
        folder = folder or (teacher or {}).get("folder")
        if folder is None:
            raise ValueError("LoadRegions: give it the folder of a cache, or a teacher that names one")
        self.cache = RegionCache(folder)
        self._labeled: Any = None
        if teacher is not None:
            from openvocab.teacher.region_embedder import build_embedder  # needs open_clip, which loading data does not

            settled = {"dtype": self.cache.teacher_dtype} if teacher.get("dtype") == "auto" else {}
            embedder = build_embedder({**teacher, **settled, "device": "cpu"})
            self.cache.check_settings(embedder.facts)
            self._labeled = embedder.proposals if embedder.proposals.reads_labels else None

    def check_index(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Check that the cache has all images of a dataset.

        Raises:
            ValueError: it lacks images; the message has their number.
        """
        self.cache.check_images(str(item["sample_id"]) for item in items)

    def transform(self, results: dict) -> dict:
        """Add `regions`: boxes (N, 4), embeddings (N, D) and objectness (N,), in the original frame.

        Raises:
            ValueError: an image that the cache lacks, whose size has changed, or whose labels have changed if they are
                the proposals; a damaged shard.
        """
        regions = self.cache.regions(str(results["sample_id"]), results["img"].shape[:2])
        if self._labeled is not None and not torch.equal(self._labeled(results)[0], regions.boxes):
            raise ValueError(
                f"{results['sample_id']}: its labels have changed since {self.cache.folder} was written from them; "
                "remove that folder and run tools/cache_region_embeddings.py"
            )
        results["regions"] = regions
        return results


@TRANSFORMS.register_module()
class EmbedRegions(BaseTransform):
    """Add `regions`, boxes with embeddings, which are computed on the fly: for small runs and for trying out settings.

    It takes the place of `LoadRegions` and adds the same regions, except for the rounding of a cache. A dataset with
    `cache_images=True` computes each image once per process. In loader workers, the teacher and a detector that
    proposes need `device="cpu"`.

    Args:
        teacher: the config's `teacher`.
    """

    cacheable = True

    def __init__(self, teacher: Mapping[str, Any]) -> None:
        from openvocab.teacher.region_embedder import build_embedder  # needs open_clip, which loading data does not

        self.embedder = build_embedder(teacher)

    def transform(self, results: dict) -> dict:
        """Add `regions`: boxes (N, 4), embeddings (N, D) and objectness (N,), in the original frame.

        Raises:
            ValueError: an image that was resized before, or a GPU in a loader worker.
        """
        if tuple(results["img"].shape[:2]) != tuple(results["ori_shape"]):
            raise ValueError(
                f"{results['sample_id']}: EmbedRegions must come before all geometric transforms, but the image was "
                "resized"
            )
        if get_worker_info() is not None and self.embedder.teacher.device.type == "cuda":
            raise ValueError(
                "EmbedRegions cannot use a GPU in loader workers; set num_workers=0 in the loader, or device='cpu' in "
                "the teacher (and in a detector that proposes)"
            )
        (regions,) = self.embedder([results])
        # cloned: the boxes may share their memory with the labels, and later transforms change them
        results["regions"] = Regions(regions.boxes.clone(), regions.embed, regions.objectness)
        return results
