"""mmcv's own transforms run inside a pipeline of ours, on a dataset's images and label maps."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import CenterCrop, Pad, RandomFlip, Resize

from openvocab.datasets import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample

HEIGHT, WIDTH = 24, 40
RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
"""RGB of a wall on the left, a floor on the lower right and a door on the upper right."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image of three flat areas, and its label map."""
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    label_map[HEIGHT // 2 :, WIDTH // 2 :], label_map[: HEIGHT // 2, WIDTH // 2 :] = 1, 2
    rgb = np.array([RED, GREEN, BLUE], np.uint8)[label_map]  # (H, W, 3)
    for part, array in (("photos", rgb[..., ::-1]), ("masks", label_map)):
        (tmp_path / part).mkdir()
        cv2.imwrite(str(tmp_path / part / "a.png"), array)
    return tmp_path


def loaded(folder: Path, *transforms) -> tuple[np.ndarray, np.ndarray]:
    """Return the image (H, W, 3) RGB and the label map (H, W) that a pipeline makes."""
    pipeline = [dict(type=LoadImage), dict(type=LoadLabels), *transforms, dict(type=PackSample)]
    item = SegmentationDataset("photos", "masks", ["wall", "floor", "door"], pipeline, root=folder)[0]
    sample = item["sample"]
    assert sample.original_size == (HEIGHT, WIDTH) and sample.input_size == tuple(item["image"].shape[1:])
    return item["image"].permute(1, 2, 0).numpy(), sample.label_map.numpy()


def test_resized_flipped_cropped_and_padded_as_by_hand(folder):
    image, label_map = loaded(
        folder,
        dict(type=Resize, scale=(60, 48)),  # (width, height)
        dict(type=RandomFlip, prob=1.0),
        dict(type=CenterCrop, crop_size=(50, 30)),
        dict(type=Pad, size=(64, 32), pad_val=dict(img=7, seg=255)),
    )
    rgb = cv2.cvtColor(cv2.imread(str(folder / "photos/a.png")), cv2.COLOR_BGR2RGB)
    ids = cv2.imread(str(folder / "masks/a.png"), cv2.IMREAD_UNCHANGED)
    expected_image, expected_ids = np.full((32, 64, 3), 7, np.uint8), np.full((32, 64), 255, np.uint8)
    resized = cv2.resize(rgb, (60, 48), interpolation=cv2.INTER_LINEAR)[:, ::-1]
    expected_image[:30, :50] = resized[9:39, 5:55]
    resized_ids = cv2.resize(ids, (60, 48), interpolation=cv2.INTER_NEAREST)[:, ::-1]
    expected_ids[:30, :50] = resized_ids[9:39, 5:55]
    assert np.array_equal(image, expected_image) and np.array_equal(label_map, expected_ids)
    assert set(np.unique(label_map)) == {0, 1, 2, 255}  # never interpolated


def test_colors_are_rgb_where_the_labels_say_so(folder):
    """After a flip the wall is on the right: red in RGB, which a swap of the channels would make blue."""
    image, label_map = loaded(folder, dict(type=RandomFlip, prob=1.0))
    assert image[0, -1].tolist() == list(RED) and label_map[0, -1] == 0
    for index, color in enumerate((RED, GREEN, BLUE)):
        assert (image[label_map == index] == color).all()


def test_a_draw_of_mmcvs_depends_on_the_seed_of_the_item(folder):
    from openvocab.seeding import DrawIndex

    pipeline = [LoadImage(), LoadLabels(), RandomFlip(prob=0.5), PackSample()]
    dataset = SegmentationDataset("photos", "masks", ["wall", "floor", "door"], pipeline, root=folder)
    walls = [int(dataset[DrawIndex(0, seed)]["sample"].label_map[0, 0]) for seed in range(20)]
    assert walls == [int(dataset[DrawIndex(0, seed)]["sample"].label_map[0, 0]) for seed in range(20)]
    assert set(walls) == {0, 2}
