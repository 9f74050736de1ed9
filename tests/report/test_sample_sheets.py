"""Sheets of samples: the pixels that a network gets, with every kind of target, in original and reduced size."""

import numpy as np
import pytest
import torch
from PIL import Image

from openvocab.preprocessor import BatchPreprocessor
from openvocab.report.sample_sheets import (
    MAX_TILES,
    SHEET_WIDTH,
    denormalize,
    draw_predictions,
    draw_training_batch,
    tile_sheet,
)
from openvocab.structures import ClassificationPrediction, Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_names(["cat", "dog", "sofa"])
PREPROCESSOR = BatchPreprocessor([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], 16)


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_normalization_is_undone_exactly():
    pixels = image(30, 40)
    sample = Sample("a", VOCABULARY, (30, 40), (30, 40))
    prepared = PREPROCESSOR({"image": [pixels], "sample": [sample]}, training=True)["images"]
    assert prepared.shape == (1, 3, 32, 48)
    undone = denormalize(PREPROCESSOR, prepared)
    assert (undone[0, :30, :40] == pixels.permute(1, 2, 0).numpy()).all() and not undone[0, 30:].any()


def targets(kind: str, height: int, width: int) -> dict:
    boxes = torch.tensor([[2.0, 3.0, width / 2, height / 2], [5.0, 5.0, width - 1.0, height - 2.0]])
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[:, 5 : height // 2, 5 : width // 2] = True
    return {
        "label map": dict(label_map=torch.full((height, width), 1, dtype=torch.uint8)),
        "boxes": dict(instances=Instances(boxes, torch.tensor([0, 2]))),
        "masks": dict(instances=Instances(boxes, torch.tensor([0, 2]), masks)),
        "no objects": dict(instances=Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))),
        "classes": dict(class_ids=(2,)),
        "captions": dict(captions=("a cat on a <b>sofa</b>", "a dog " * 100)),
        "nothing": {},
    }[kind]


@pytest.mark.parametrize("size", [(40, 64), (700, 900)])
@pytest.mark.parametrize("kind", ["label map", "boxes", "masks", "no objects", "classes", "captions", "nothing"])
def test_every_kind_of_target_is_drawn(kind, size):
    samples = [Sample(f"sample {index}", VOCABULARY, size, size, **targets(kind, *size)) for index in range(2)]
    batch = {"image": [image(*size, seed) for seed in range(2)], "sample": samples}
    sheet = draw_training_batch(PREPROCESSOR, batch)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert 300 < sheet.shape[1] <= SHEET_WIDTH and 150 < sheet.shape[0] < 2 * SHEET_WIDTH
    assert samples[0].padded_size is None  # the batch itself is not changed


def test_large_batches_and_several_views_fill_one_page():
    samples = [Sample(f"{index}", None, (32, 32), (32, 32), captions=("words",)) for index in range(40)]
    views = {"image": [torch.stack([image(32, 32, seed)] * 3) for seed in range(40)], "sample": samples}
    plain = {"image": [image(32, 32, seed) for seed in range(40)], "sample": samples}
    for batch in (views, plain):
        height, width, _ = draw_training_batch(PREPROCESSOR, batch).shape
        assert width <= SHEET_WIDTH and height < 1.6 * SHEET_WIDTH
    assert MAX_TILES < 40


def test_tiles_leave_no_gap_where_their_number_allows():
    tiles = [np.zeros((100, 448, 3), np.uint8)] * 8
    sheet = tile_sheet(tiles)
    assert sheet.shape[1] == SHEET_WIDTH and sheet[-20:, -20:].max() == 0  # four in a row, the last one included


def test_predictions_of_images_without_a_file_are_left_out(tmp_path):
    Image.fromarray(image(64, 48).permute(1, 2, 0).numpy()).save(tmp_path / "a.png")
    prediction = ClassificationPrediction(torch.tensor([1.0, 2.0, 0.0]), VOCABULARY)
    of_file = Sample("a", VOCABULARY, (64, 48), (64, 48), class_ids=(1,), image_path=str(tmp_path / "a.png"))
    of_shard = Sample("b", VOCABULARY, (64, 48), (64, 48), class_ids=(1,))
    assert draw_predictions([(of_shard, prediction)]) is None
    one = draw_predictions([(of_file, prediction), (of_shard, prediction)])
    assert (one == draw_predictions([(of_file, prediction)])).all()
