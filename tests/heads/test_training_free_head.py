"""The decision on pixels against a plain one with maps at full size."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.heads import training_free
from openvocab.heads.training_free import TrainingFreeHead, word_classes
from openvocab.logit_map import ResizedLogits, TensorLogits
from openvocab.ops.pamr import pamr
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(embed_dim=8, stride=4, hidden_dims=(6,), hidden_strides=(4,))
VOCABULARY = Vocabulary.from_names(
    [["background", "sky"], "cat", ["sofa", "couch"]], background="background", synonym_merge="max"
)
ROW_CLASS = torch.tensor([0, 0, 1, 2, 2])
SIZES = dict(original_size=(17, 30), input_size=(15, 22), padded_size=(16, 24))


def make_text() -> TextFeatures:
    rows = F.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    return TextFeatures(rows, torch.tensor(100.0), ROW_CLASS, background=0)


def make_features() -> ImageFeatures:
    return ImageFeatures((16, 24), patch_embed=torch.randn(2, 8, 4, 6, generator=torch.Generator().manual_seed(0)))


def make_samples() -> list[Sample]:
    return [Sample(str(index), VOCABULARY, **SIZES) for index in range(2)]


def plain_words(logits: torch.Tensor) -> torch.Tensor:
    """(R, 17, 30) from (R, 4, 6), by torch's own resizing of each step at once."""
    height, width = SIZES["original_size"]
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * 15 / height  # in pixels of the input
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * 22 / width
    grid = torch.stack(torch.meshgrid(2 * x / 24 - 1, 2 * y / 16 - 1, indexing="xy"), -1)[None]
    return F.grid_sample(logits[None].double(), grid, padding_mode="border", align_corners=False)[0].float()


def plain_labels(words: torch.Tensor, threshold: float, area: float | None) -> torch.Tensor:
    probability = words.softmax(0)
    classes = torch.stack([probability[ROW_CLASS == index].amax(0) for index in range(3)])
    if area is not None:
        won = F.one_hot(classes.argmax(0), 3)[..., 1:].sum((0, 1))
        classes[1:] *= (won > area * won.sum())[:, None, None]
    labels = classes.argmax(0)
    labels[classes.amax(0) < threshold] = 0
    return labels


@pytest.mark.parametrize("area", [None, 0.3, 0.6])
@pytest.mark.parametrize("rows_at_once", [1, 1000])
def test_labels_are_those_of_full_maps(monkeypatch, area, rows_at_once):
    monkeypatch.setattr(training_free, "ELEMENTS_AT_ONCE", rows_at_once * 5 * 30)
    head = TrainingFreeHead(SPEC, 8, 5.0, background_threshold=0.4, area_threshold=area)
    outputs = head(make_features(), make_text())
    assert outputs.shape == (2, 5, 4, 6)
    predictions = head.postprocess(outputs, make_samples())
    seen = set()
    for prediction, logits in zip(predictions, outputs):
        expected = plain_labels(plain_words(logits), 0.4, area)
        assert torch.equal(torch.from_numpy(prediction.label_map).long(), expected)
        assert prediction.label_map.dtype == "uint8"
        seen |= set(expected.flatten().tolist())
    assert len(seen) > 1


def test_maps_that_are_read_in_parts_give_the_same():
    head = TrainingFreeHead(SPEC, 8, 5.0, background_threshold=0.4, area_threshold=0.3)
    outputs, maps = head(make_features(), make_text()), head.logit_maps(make_features(), make_text())
    whole, parts = (head.postprocess(either, make_samples()) for either in (outputs, maps))
    for a, b in zip(whole, parts):
        assert (a.label_map == b.label_map).all()


def test_refinement_sees_the_image_at_the_original_size():
    head = TrainingFreeHead(SPEC, 8, 5.0, pamr_dilations=(2,), pamr_steps=3)
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    outputs = head(make_features(), make_text())
    predictions = head.postprocess(outputs, make_samples(), images)
    for prediction, logits, image in zip(predictions, outputs, images):
        pixels = F.interpolate(image[None, :, :15, :22], size=(17, 30), mode="bilinear")[0]
        expected = plain_labels(pamr(plain_words(logits), pixels, (2,), 3), 0.0, None)
        assert (torch.from_numpy(prediction.label_map) == expected).float().mean() > 0.99
    with pytest.raises(ValueError, match="needs the images"):
        head.postprocess(outputs, make_samples())


def test_labels_and_scores_share_one_refinement_of_each_image(monkeypatch):
    refined = []
    monkeypatch.setattr(training_free, "pamr", lambda *arguments: refined.append(pamr(*arguments)) or refined[-1])
    head = TrainingFreeHead(SPEC, 8, 5.0, pamr_dilations=(2,), pamr_steps=3, presence_threshold=0.1)
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    outputs = head(make_features(), make_text())
    results = list(head.predictions_with_scores(outputs, make_samples(), images))
    assert len(refined) == len(results) == 2
    for (prediction, scores), words in zip(results, refined):
        best = torch.stack([words.softmax(0)[ROW_CLASS == index].amax(0) for index in range(3)])
        torch.testing.assert_close(scores.whole(), best)
        assert (prediction.label_map == best.argmax(0).numpy()).all()


def test_rows_that_are_no_words_of_the_vocabulary_are_refused():
    assert word_classes(VOCABULARY, 3) is None
    assert torch.equal(word_classes(VOCABULARY, 5), ROW_CLASS)
    with pytest.raises(ValueError, match="4 logits per pixel, but the vocabulary has 3 classes of 5 words"):
        word_classes(VOCABULARY, 4)


def test_logits_that_are_not_finite_are_refused():
    head = TrainingFreeHead(SPEC, 8)
    with pytest.raises(ValueError, match="not finite"):
        head.postprocess(torch.full((2, 3, 4, 6), torch.nan), make_samples())


@pytest.mark.parametrize("area", [0, 1, -0.1])
def test_area_threshold_is_a_share(area):
    with pytest.raises(ValueError, match="area_threshold"):
        TrainingFreeHead(SPEC, 8, area_threshold=area)


def test_resized_logits_equal_torchs_and_read_in_parts():
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    for size in ((20, 30), (3, 4), (5, 7), (1, 1), (64, 7)):
        resized = ResizedLogits(TensorLogits(logits), size)
        expected = F.interpolate(logits[None], size=size, mode="bilinear")[0]
        torch.testing.assert_close(resized.whole(), expected, atol=1e-5, rtol=1e-5)
        last = resized.read(slice(size[0] - 1, size[0]), slice(size[1] // 2, size[1]))
        torch.testing.assert_close(last, expected[:, -1:, size[1] // 2 :], atol=1e-5, rtol=1e-5)
