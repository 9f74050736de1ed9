"""What the teacher says of an image's regions, from its cache or computed on the fly."""

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
    """Add `regions`, boxes with embeddings that `tools/cache_region_embeddings.py` has written.

    Comes after `LoadImage` and before all geometry, which then moves image and boxes.

    Args:
        folder: of the cache; by default the one that `teacher` names.
        teacher: the config's `teacher`; with it, a cache of other weights, crops or proposals is an error; its dtype
            "auto" is whatever the cache was made in. Without it the cache is taken as it is.

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
            from openvocab.teacher.region_embedder import build_embedder  # needs open_clip, which data alone does not

            settled = {"dtype": self.cache.teacher_dtype} if teacher.get("dtype") == "auto" else {}
            embedder = build_embedder({**teacher, **settled, "device": "cpu"})
            self.cache.check_settings(embedder.facts)
            self._labeled = embedder.proposals if embedder.proposals.reads_labels else None

    def check_index(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Check that the cache has all images of a dataset.

        Raises:
            ValueError: with the number of those that it lacks.
        """
        self.cache.check_images(str(item["sample_id"]) for item in items)

    def transform(self, results: dict) -> dict:
        """Add the regions.

        Raises:
            ValueError: an image that the cache lacks or that has changed since, in its size or in the labels that the
                proposals were; a shard that is damaged.
        """
        regions = self.cache.regions(str(results["sample_id"]), results["img"].shape[:2])
        if self._labeled is not None and not torch.equal(self._labeled(results)[0], regions.boxes):
            raise ValueError(
                f"{results['sample_id']}: its labels have changed since {self.cache.folder} was made of them; "
                "remove that folder and run tools/cache_region_embeddings.py"
            )
        results["regions"] = regions
        return results


@TRANSFORMS.register_module()
class EmbedRegions(BaseTransform):
    """Add `regions`, boxes with embeddings that are computed here: for small runs, and for a look at a setting.

    Comes where `LoadRegions` does and makes the same, a cache's rounding apart. A dataset with `cache_images=True`
    computes each image once a process. In loader workers it needs `device="cpu"`, of the
    teacher and of a detector that proposes.

    Args:
        teacher: the config's `teacher`.
    """

    cacheable = True

    def __init__(self, teacher: Mapping[str, Any]) -> None:
        from openvocab.teacher.region_embedder import build_embedder  # needs open_clip, which data alone does not

        self.embedder = build_embedder(teacher)

    def transform(self, results: dict) -> dict:
        """Add the regions.

        Raises:
            ValueError: the image has been resized before, or a GPU is asked for in a loader worker.
        """
        if tuple(results["img"].shape[:2]) != tuple(results["ori_shape"]):
            raise ValueError(f"{results['sample_id']}: EmbedRegions stands before all geometry, this image was resized")
        if get_worker_info() is not None and self.embedder.teacher.device.type == "cuda":
            raise ValueError(
                "EmbedRegions cannot use a GPU in loader workers; set num_workers=0 in the loader, or device='cpu' in "
                "the teacher (and in a detector that proposes)"
            )
        (regions,) = self.embedder([results])
        # the boxes may share the labels' memory
        results["regions"] = Regions(regions.boxes.clone(), regions.embed, regions.objectness)
        return results
