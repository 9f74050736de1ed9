"""Windows, words, background and refinement end to end, against what the published code gives on the same weights."""

import pytest
import torch
import torch.nn.functional as F
from readout_reference import SIZES, WORD_CLASS, backbone, expected, needs_reference, normal, queries, scene, text
from torch import Tensor

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.rfclip import RFCLIPHead
from openvocab.heads.training_free import TrainingFreeHead
from openvocab.heads.word_labels import class_probabilities
from openvocab.inference import UnpaddedSlidingWindow, UnpaddedWholeImage
from openvocab.logit_map import ResizedLogits, TensorLogits
from openvocab.ops.complete_linkage import complete_linkage
from openvocab.ops.pamr import pamr
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary

pytestmark = needs_reference
VOCABULARY = Vocabulary.from_names(
    [["background", "sky"], "a", "b", ["c", "d"], "e", ["f", "g"]], background="background", synonym_merge="max"
)
ORIGINAL = (200, 280)


@pytest.fixture(scope="module")
def naclip():
    return backbone("naclip")


def predict(tower: CLIPBackbone, head: TrainingFreeHead, inference) -> tuple[Tensor, Tensor]:
    """The label map at the original size, and the logits of the words at the input's."""
    image = scene(*SIZES["b"])
    sample = Sample("b", VOCABULARY, ORIGINAL, SIZES["b"], padded_size=SIZES["b"])
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


@pytest.mark.parametrize(("readout", "array"), [("scclip", "scclip_slide"), ("sfp", "sfp_slide")])
def test_areas_end_to_end(readout, array):
    tower = backbone(readout)
    head = TrainingFreeHead(tower.spec, 512, 50.0, background_threshold=0.15, area_threshold=0.1)
    labels, _ = predict(tower, head, UnpaddedSlidingWindow(224, 112))
    assert torch.equal(labels[::5, ::5], expected(f"{array}_label"))


@torch.inference_mode()
@pytest.mark.parametrize(("array", "dilations"), [("rf_slide", ()), ("rf_slide_pamr", (8, 16))])
def test_rfclip_end_to_end(array, dilations):
    tower = backbone("rfclip")
    shares = dict(image_share=0.25, patch_share=0.04, cluster_distance=0.09)
    head = RFCLIPHead(tower.spec, 512, 40.0, background_threshold=0.1, pamr_dilations=dilations, **shares)
    image = scene(*SIZES["b"])
    whole = tower(image).image_embed

    def network(images: Tensor) -> Tensor:
        features = tower(images)
        features.whole_embed = whole.expand(len(images), -1)
        return head(features, text())

    sample = Sample("b", VOCABULARY, ORIGINAL, SIZES["b"], padded_size=SIZES["b"])
    outputs = UnpaddedSlidingWindow(224, 112)(network, image, [sample], torch.zeros(1, 3, 1, 1))
    (prediction,) = head.postprocess(outputs, [sample], image)
    assert torch.equal(torch.from_numpy(prediction.label_map)[::5, ::5], expected(f"{array}_label"))
    torch.testing.assert_close(
        probabilities_of(outputs, dilations)[:, ::5, ::5], expected(f"{array}_prob"), rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_rfclip_moves_words_as_published():
    tower = backbone("rfclip")
    head = RFCLIPHead(tower.spec, 512, 1.0, image_share=0.25, patch_share=0.04, cluster_distance=0.09)
    logits = F.interpolate(head(tower(scene(224, 224)), text()), size=(224, 224), mode="bilinear")[0, :, ::8, ::8]
    torch.testing.assert_close(logits, expected("rf_a_logits"), rtol=0, atol=1e-5)
    clusters = complete_linkage(1 - queries() @ queries().T, 0.09)
    published = expected("rf_clusters")
    assert torch.equal(clusters[:, None] == clusters, published[:, None] == published)


@pytest.mark.parametrize(
    ("array", "dilations", "steps"),
    [("pamr_8_16", (8, 16), 10), ("pamr_1_24", (1, 2, 4, 8, 12, 24), 10), ("pamr_1it", (1,), 1)],
)
def test_refinement_equals_the_published_one(array, dilations, steps):
    maps = (2 * normal((1, 5, 16, 20), 9)).softmax(1)[0]
    refined = pamr(maps, scene(64, 80, noise=1)[0], dilations, steps)
    torch.testing.assert_close(refined, expected(array), rtol=0, atol=1e-5)
