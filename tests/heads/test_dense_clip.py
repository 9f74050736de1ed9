import pytest
import torch
import torch.nn.functional as F

from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(embed_dim=8, stride=4, hidden_dims=(6,), hidden_strides=(4,))
VOCABULARY = Vocabulary.from_names(["background", "cat", "sofa"], background="background")


def make_text(rows: int = 3) -> TextFeatures:
    torch.manual_seed(1)
    return TextFeatures(F.normalize(torch.randn(rows, 8), dim=1), torch.tensor(100.0))


def make_features(size=(8, 12)) -> ImageFeatures:
    torch.manual_seed(0)
    return ImageFeatures(input_size=size, patch_embed=torch.randn(2, 8, size[0] // 4, size[1] // 4))


def make_samples(original=(16, 22), vocabulary=VOCABULARY) -> list[Sample]:
    return [Sample(str(i), vocabulary, original, input_size=(8, 11), padded_size=(8, 12)) for i in range(2)]


@pytest.mark.parametrize(("given", "expected"), [(40.0, 40.0), (None, 100.0)])
def test_logits_are_scaled_cosines(given, expected):
    features, text = make_features(), make_text()
    logits = DenseCLIPHead(SPEC, 8, logit_scale=given)(features, text)
    assert logits.shape == (2, 3, 2, 3)
    cosine = F.cosine_similarity(features.patch_embed[1, :, 0, 2], text.embed[2], dim=0)
    torch.testing.assert_close(logits[1, 2, 0, 2], expected * cosine)


def test_synonyms_speak_for_their_class_by_the_best():
    features, text = make_features(), make_text(4)
    merged = TextFeatures(text.embed, text.logit_scale, row_class=torch.tensor([0, 1, 1, 2]))
    head = DenseCLIPHead(SPEC, 8)
    rows, classes = head(features, text), head(features, merged)
    torch.testing.assert_close(classes, torch.stack([rows[:, 0], rows[:, 1:3].amax(1), rows[:, 3]], 1))


def test_label_maps_are_in_the_original_frame():
    head = DenseCLIPHead(SPEC, 8)
    predictions = head.postprocess(head(make_features(), make_text()), make_samples())
    assert [prediction.label_map.shape for prediction in predictions] == [(16, 22)] * 2
    assert predictions[0].class_names == VOCABULARY.class_names


def test_background_takes_what_no_class_reaches():
    head = DenseCLIPHead(SPEC, 8, background_threshold=0.6)
    samples = [Sample("0", VOCABULARY, (8, 12), (8, 12), padded_size=(8, 12))]
    logits = torch.tensor([0.0, 1.0, 0.0])  # probabilities 0.21, 0.58, 0.21
    for gain, expected in ((1.0, 0), (1.2, 1)):
        (prediction,) = head.postprocess((gain * logits).view(1, 3, 1, 1).expand(1, 3, 2, 3), samples)
        assert (prediction.label_map == expected).all()


def test_background_threshold_leaves_a_vocabulary_without_background_alone():
    samples = make_samples(vocabulary=Vocabulary.from_names(["a", "b", "c"]))
    logits = 0.1 * make_text().embed.new_tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).expand(2, 3, 2, 3)
    predictions = DenseCLIPHead(SPEC, 8, background_threshold=0.9).postprocess(logits, samples)
    assert all((prediction.label_map == 2).all() for prediction in predictions)


def test_training_is_refused():
    with pytest.raises(ValueError, match="training-free"):
        DenseCLIPHead(SPEC, 8).loss(make_features(), make_text(), make_samples())


def test_width_mismatch_names_both():
    with pytest.raises(ValueError, match="8.*512"):
        DenseCLIPHead(SPEC, 512)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1])
def test_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        DenseCLIPHead(SPEC, 8, background_threshold=threshold)


def make_similar_text() -> TextFeatures:
    """Classes so close to each other that a softmax of 100 times the cosine is unsure of them."""
    base, rest = torch.randn(4, 8, generator=torch.Generator().manual_seed(4)).split((1, 3))
    return TextFeatures(F.normalize(base + 0.02 * rest, dim=1), torch.tensor(100.0))


def make_keys() -> torch.Tensor:
    return torch.randn(2, 6, 2, 3, generator=torch.Generator().manual_seed(2))


def test_prompt_denoising_rules_out_classes_that_no_place_is_sure_of():
    features, text = make_features(), make_similar_text()
    plain = DenseCLIPHead(SPEC, 8, logit_scale=1.0)(features, text)
    best = (100 * plain).softmax(1).amax((2, 3))  # (B, K)
    threshold = float(best.flatten().sort().values[2:4].mean())
    denoised = DenseCLIPHead(SPEC, 8, logit_scale=1.0, pd_thresh=threshold)(features, text)
    for image in range(2):
        for kind in range(3):
            ruled_out = best[image, kind] < threshold
            assert torch.equal(denoised[image, kind], torch.full((2, 3), -100.0) if ruled_out else plain[image, kind])
    assert (denoised == -100).any() and (denoised != -100).any()


def test_key_smoothing_is_literal():
    features, text = make_features(), make_similar_text()
    features.patch_keys = make_keys()
    cosines = DenseCLIPHead(SPEC, 8, logit_scale=1.0)(features, text)
    smoothed = DenseCLIPHead(SPEC, 8, ks_thresh=0.9)(features, text)
    changed = 0
    for image in range(2):
        probability = (100 * cosines[image]).softmax(0).flatten(1)  # (K, N)
        keys = features.patch_keys[image].flatten(1)  # (C, N)
        keys = keys / keys.norm(dim=1, keepdim=True)  # over the places, as in the published code
        for i in range(6):
            expected = probability[:, i]
            if expected.max() < 0.9:
                expected = sum(float(keys[:, i] @ keys[:, j]) * probability[:, j] for j in range(6))
                changed += 1
            torch.testing.assert_close(smoothed[image].flatten(1)[:, i], expected)
    assert changed


def test_refined_maps_are_not_computed_in_parts():
    features, text = make_features(), make_text()
    assert DenseCLIPHead(SPEC, 8, pd_thresh=0.5).logit_maps(features, text) is None
    assert DenseCLIPHead(SPEC, 8).logit_maps(features, text) is not None


def test_key_smoothing_needs_keys_and_no_threshold():
    with pytest.raises(ValueError, match="readout='maskclip'"):
        DenseCLIPHead(SPEC, 8, ks_thresh=1.0)(make_features(), make_text())
    with pytest.raises(ValueError, match="background_threshold"):
        DenseCLIPHead(SPEC, 8, ks_thresh=1.0, background_threshold=0.5)
    with pytest.raises(ValueError, match="pd_thresh.*1.5"):
        DenseCLIPHead(SPEC, 8, pd_thresh=1.5)
