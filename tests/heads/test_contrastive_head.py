"""The contrastive head: its captions, its loss, its zero-shot logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from openvocab.engine.hooks import ClampLogitScale
from openvocab.heads import ContrastiveHead
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(embed_dim=8, stride=8, hidden_dims=(4,), hidden_strides=(8,))


def make_sample(name: str, captions: tuple[str, ...] = ("a caption",), vocabulary: Vocabulary | None = None) -> Sample:
    return Sample(name, vocabulary, (64, 64), (64, 64), captions=captions)


def make_batch(count: int) -> tuple[ImageFeatures, TextFeatures]:
    generator = torch.Generator().manual_seed(0)
    images = 5 * torch.randn(count, 8, generator=generator)  # not normalized
    texts = F.normalize(torch.randn(count, 8, generator=generator), dim=1)
    return ImageFeatures((64, 64), image_embed=images), TextFeatures(texts, torch.tensor(10.0))


def test_is_registered_and_has_no_weights():
    head = HEADS.build(dict(type="ContrastiveHead", backbone=SPEC, text_dim=8))
    assert not list(head.parameters()) and head.layers == ()
    assert not head.state_dict() and not head.text_tokens


def test_the_default_is_one_caption_term():
    features, text = make_batch(6)
    samples = [make_sample(str(i)) for i in range(6)]
    spelled_out = ContrastiveHead(SPEC, 8, terms=[dict(type="CaptionContrast")]).loss(features, text, samples)
    default = ContrastiveHead(SPEC, 8).loss(features, text, samples)
    assert default.keys() == spelled_out.keys() and torch.equal(
        *[x["loss_contrastive"] for x in (default, spelled_out)]
    )


@pytest.mark.parametrize("embed_dim", [4, None])
def test_towers_of_different_width_are_refused(embed_dim: int | None):
    spec = BackboneSpec(embed_dim, 8, (4,), (8,))
    with pytest.raises(ValueError, match=f"width {embed_dim}, text embeddings 8"):
        ContrastiveHead(spec, text_dim=8)


def test_training_texts_are_the_first_captions():
    samples = [make_sample("a", ("one", "two")), make_sample("b", ("three",))]
    assert ContrastiveHead(SPEC, 8).training_texts(samples) == ["one", "three"]


def test_a_sample_without_caption_is_named():
    with pytest.raises(ValueError, match="'b' has no caption"):
        ContrastiveHead(SPEC, 8).training_texts([make_sample("a"), make_sample("b", ())])


def test_loss_is_the_symmetric_cross_entropy_of_the_logits():
    features, text = make_batch(6)
    head = ContrastiveHead(SPEC, 8, chunk_size=4)
    losses = head.loss(features, text, [make_sample(str(i)) for i in range(6)])
    logits, target = head(features, text), torch.arange(6)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert list(losses) == ["loss_contrastive"]
    torch.testing.assert_close(losses["loss_contrastive"], expected)


def test_images_with_the_same_caption_can_be_positives_of_one_another():
    features, text = make_batch(3)
    text = TextFeatures(text.embed[[0, 0, 1]], text.logit_scale)
    samples = [make_sample("a", ("x",)), make_sample("b", ("x",)), make_sample("c", ("y",))]
    loss = ContrastiveHead(SPEC, 8, positives_by_text=True).loss(features, text, samples)["loss_contrastive"]
    logits = ContrastiveHead(SPEC, 8)(features, text)
    target = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    torch.testing.assert_close(loss, (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)


def test_logits_are_scaled_cosines_in_float32_under_autocast():
    features, text = make_batch(3)
    expected = 10.0 * F.cosine_similarity(features.image_embed[:, None], text.embed, dim=-1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = ContrastiveHead(SPEC, 8)(features, text)
    torch.testing.assert_close(logits, expected)


def test_predictions_carry_the_logits_of_their_image():
    vocabulary = Vocabulary.from_names(["red", "blue"])
    samples = [make_sample(name, vocabulary=vocabulary) for name in "ab"]
    predictions = ContrastiveHead(SPEC, 8).postprocess(torch.tensor([[1.0, 2.0], [3.0, 4.0]]).bfloat16(), samples)
    assert [prediction.sample_id for prediction in predictions] == ["a", "b"]
    assert predictions[1].logits.tolist() == [3.0, 4.0] and predictions[1].logits.dtype == torch.float32
    assert predictions[0].vocabulary is vocabulary


class Temperature(TextEncoder):
    """A text encoder as the hook sees it."""

    learns_logit_scale = True

    def __init__(self) -> None:
        super().__init__()
        self.clamped_at: list[float] = []

    def clamp_logit_scale(self, maximum: float) -> None:
        self.clamped_at.append(maximum)


class FakeRunner:
    def __init__(self, text_encoder: nn.Module) -> None:
        self.model = nn.Module()
        self.model.text_encoder = text_encoder


def test_the_hook_clamps_after_each_iteration():
    encoder = Temperature()
    runner, hook = FakeRunner(encoder), ClampLogitScale(maximum=50.0)
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)
    assert encoder.clamped_at == [50.0]


def test_the_hook_refuses_text_encoders_without_a_learned_scale():
    with pytest.raises(ValueError, match="TextEncoder has no learned logit scale"):
        ClampLogitScale().before_train(FakeRunner(TextEncoder()))
    with pytest.raises(ValueError, match="TextEncoder has no learned logit scale"):
        TextEncoder().clamp_logit_scale()
    with pytest.raises(ValueError, match="at least 1"):
        ClampLogitScale(maximum=0.5)
