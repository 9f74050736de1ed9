"""The transforms that read files."""

from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.results import Results
from openvocab.images.image_io import MAX_PIXELS, BadSample, decode_image_bgr, read_image_bgr
from openvocab.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read `img_path` into `img` (H, W, 3) uint8 BGR, and set `ori_shape` and `img_shape`.

    If the dataset has read the file itself, it sets `img_bytes` (the file's content) or `img`, and that is used.

    Args:
        max_pixels: larger images are bad samples; see `read_image`.
    """

    cacheable = True

    def __init__(self, max_pixels: int | None = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels

    def transform(self, results: Results) -> Results:
        """Add the image, (H, W, 3) uint8 BGR.

        Raises:
            BadSample: see `read_image`.
        """
        if results.get("img_bytes") is not None:
            results["img"] = decode_image_bgr(results.pop("img_bytes"), results["img_path"], self.max_pixels)
        elif "img" not in results:
            results["img"] = read_image_bgr(results["img_path"], self.max_pixels)
        height, width = results["img"].shape[:2]
        results["ori_shape"] = results["img_shape"] = height, width
        return results


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Read `seg_map_path` into `gt_seg_map` (H, W): class indices, 255 (or 65535 in uint16) where ignored.

    Put it after `LoadImage`: in training before all geometry, which then moves both; at evaluation after it, so that
    the labels stay in the original frame. Items without a label map pass unchanged.

    Args:
        max_pixels: larger label maps are bad samples; see `read_image`.
    """

    cacheable = True

    def __init__(self, max_pixels: int | None = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels

    def transform(self, results: Results) -> Results:
        """Add the label map, (H, W) uint8 or uint16.

        Raises:
            BadSample: unreadable, of another size than the image, or with unknown ids.
        """
        path = results.get("seg_map_path")
        if path is None:
            return results
        ids = results["label_reader"](path, self.max_pixels)
        if ids.shape != tuple(results["ori_shape"]):
            image_size = "x".join(map(str, results["ori_shape"]))
            raise BadSample(
                path, f"the label map is {ids.shape[0]}x{ids.shape[1]} (height x width), its image {image_size}"
            )
        results["gt_seg_map"] = results["label_table"](ids, path)
        return results


@TRANSFORMS.register_module()
class LoadInstances(BaseTransform):
    """Add `instances`, the labeled objects of an item of `DetectionDataset`, with masks if the dataset reads them.

    Put it after `LoadImage`: in training before all geometry, which then moves image, boxes and masks; at evaluation
    after it, so that the objects stay in the original frame. Items without labels pass unchanged.

    Args:
        max_mask_bytes: an image whose masks would take more memory (one byte per pixel and object; default: 4 GiB) is a
            bad sample.
    """

    cacheable = True

    def __init__(self, max_mask_bytes: int = 2**32) -> None:
        self.max_mask_bytes = max_mask_bytes

    def transform(self, results: Results) -> Results:
        """Add the objects: boxes (N, 4), classes (N,) and, if the dataset reads them, masks (N, H, W).

        Raises:
            BadSample: the image has another size than the annotations state, or its masks take too much memory.
        """
        table = results.get("instance_table")
        if table is None:
            return results
        height, width = results["ori_shape"]
        size, stated = (height, width), tuple(results["annotated_size"])
        if size != stated:
            raise BadSample(
                results["img_path"],
                f"the image is {size[0]}x{size[1]} (height x width), its annotations state {stated[0]}x{stated[1]}",
            )
        count = table.count(results["image_position"])
        if table.masks is not None and count * size[0] * size[1] > self.max_mask_bytes:
            raise BadSample(
                results["img_path"],
                f"the masks of its {count} objects would take more than max_mask_bytes={self.max_mask_bytes}; raise "
                "max_mask_bytes of LoadInstances, or set with_masks=False in the dataset",
            )
        results["instances"] = table.instances(results["image_position"], size)
        return results
