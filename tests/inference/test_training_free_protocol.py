"""Windows, words, background and refinement end to end, against what the published code gives on the same weights."""

import pytest
import torch
import torch.nn.functional as F
from readout_reference import SIZES, WORD_CLASS, backbone, expected, needs_reference, normal, scene, text
from torch import Tensor

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.training_free import TrainingFreeHead
from openvocab.inference import UnpaddedSlidingWindow, UnpaddedWholeImage
from openvocab.logit_map import ResizedLogits, TensorLogits
from openvocab.pamr import pamr
from openvocab.structures import Sample
from openvocab.text.vocabulary import Vocabulary
from openvocab.word_labels import class_probabilities

pytestmark = needs_reference
NAMES = [["background", "sky"], "a", "b", ["c", "d"], "e", ["f", "g"]]
ORIGINAL = (200, 280)


@pytest.fixture(scope="module")
def naclip():
    return backbone("naclip")


def predict(tower: CLIPBackbone, head: TrainingFreeHead, inference) -> tuple[Tensor, Tensor]:
    """The label map at the original size, and the logits of the words at the input's."""
    image = scene(*SIZES["b"])
    vocabulary = Vocabulary.from_names(NAMES, background="background", synonym_merge="max")
    sample = Sample("b", vocabulary, ORIGINAL, SIZES["b"], padded_size=SIZES["b"])
    with torch.inference_mode():
        outputs = inference(lambda images: head(tower(images), text()), image, [sample], torch.zeros(1, 3, 1, 1))
        (prediction,) = head.postprocess(outputs, [sample], image)
    return torch.from_numpy(prediction.label_map), outputs


def probabilities_of(outputs: Tensor, dilations: tuple[int, ...]) -> Tensor:
    words = ResizedLogits(TensorLogits(outputs[0]), ORIGINAL, SIZES["b"]).whole()
    if dilations:
        words = pamr(words, F.interpolate(scene(*SIZES["b"]), size=ORIGINAL, mode="bilinear")[0], dilations)
    return class_probabilities(words, torch.tensor(WORD_CLASS))


@pytest.mark.parametrize(
    ("array", "inference", "dilations"),
    [
        ("naclip_slide", UnpaddedSlidingWindow(224, 112), ()),
        ("naclip_slide_pamr", UnpaddedSlidingWindow(224, 112), (8, 16)),
        ("naclip_whole", UnpaddedWholeImage(16), ()),
    ],
)
def test_naclip_end_to_end(naclip, array, inference, dilations):
    head = TrainingFreeHead(naclip.spec, 512, 40.0, background_threshold=0.1, pamr_dilations=dilations)
    labels, outputs = predict(naclip, head, inference)
    assert torch.equal(labels[::5, ::5], expected(f"{array}_label"))
    probabilities = probabilities_of(outputs, dilations)
    probabilities = probabilities / probabilities.sum(0)  # as NACLIP writes them; labels come before that
    torch.testing.assert_close(probabilities[:, ::5, ::5], expected(f"{array}_prob"), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "dilations", "steps"),
    [("pamr_8_16", (8, 16), 10), ("pamr_1_24", (1, 2, 4, 8, 12, 24), 10), ("pamr_1it", (1,), 1)],
)
def test_refinement_equals_the_published_one(array, dilations, steps):
    maps = (2 * normal((1, 5, 16, 20), 9)).softmax(1)[0]
    refined = pamr(maps, scene(64, 80, noise=1)[0], dilations, steps)
    torch.testing.assert_close(refined, expected(array), rtol=0, atol=1e-5)
