"""The last transform: from the results dict to what the model takes."""

import warnings

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.results import Packed, Results
from openvocab.images.image_io import LARGE_BYTES
from openvocab.registry import TRANSFORMS
from openvocab.structures import Sample

CHUNK_ROWS = 256


@TRANSFORMS.register_module()
class PackSample(BaseTransform):
    """Return `{"image": (3, H, W) uint8 RGB tensor, "sample": Sample}`.

    This is the one place where BGR becomes RGB: everything after it, and all of the library outside of pipelines, is
    RGB.
    """

    packs = True

    def transform(self, results: Results) -> Packed:
        """Pack one item: `img` (H, W, 3) BGR becomes the image (3, H, W) RGB."""
        image, label_map = results["img"], results.get("gt_seg_map")
        if image.nbytes > LARGE_BYTES:
            results.pop("img")  # its channels are swapped in place: nobody may read it after that
        sample = Sample(
            sample_id=str(results["sample_id"]),
            vocabulary=results.get("vocabulary"),
            original_size=(results["ori_shape"][0], results["ori_shape"][1]),
            input_size=(image.shape[0], image.shape[1]),
            label_map=None if label_map is None else _label_tensor(label_map),
            captions=tuple(results.get("captions", ())),
            class_ids=tuple(results.get("class_ids", ())),
            image_path=str(results.get("img_path", "")),
            instances=results.get("instances"),
            regions=results.get("regions"),
            federated=results.get("federated"),
            prompt=results.get("prompt"),
            phrase_types=results.get("phrase_types", ()),
        )
        return {"image": _image_tensor(image), "sample": sample}


def _image_tensor(image: np.ndarray) -> torch.Tensor:
    """Return BGR (H, W, 3) as RGB (3, H, W). Large images, which may not fit into memory twice, share its memory."""
    if image.nbytes > LARGE_BYTES and image[..., ::-1].flags.c_contiguous:  # a view of an RGB image
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the array is read-only: nobody writes
            return torch.from_numpy(image[..., ::-1]).permute(2, 0, 1)
    if image.nbytes > LARGE_BYTES and image.flags.writeable and image.flags.c_contiguous:
        for start in range(0, len(image), CHUNK_ROWS):
            rows = image[start : start + CHUNK_ROWS]
            rows[:] = rows[..., ::-1]
        return torch.from_numpy(image).permute(2, 0, 1)  # (3, H, W)
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, [planes[2], planes[1], planes[0]])  # BGR -> RGB, (3, H, W), in one pass
    return torch.from_numpy(planes)


def _label_tensor(label_map: np.ndarray) -> torch.Tensor:
    """Return a label map (H, W) as a tensor, uint8 or int32."""
    if label_map.dtype == np.uint16:  # torch supports few operations on uint16
        return torch.from_numpy(label_map.astype(np.int32))
    return torch.from_numpy(np.require(label_map, requirements=("C", "W")))  # a copy, if a cache owns it
