"""The linear classifier: its inputs, its loss computed another way, and that one-hot rows make it an ordinary one."""

import numpy as np
import pytest
import torch
from torch import nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads import LinearHead
from openvocab.heads.linear import mix_pairs
from openvocab.model import OpenVocabModel
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, TextFeatures
from openvocab.text.one_hot import OneHotTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(embed_dim=6, stride=8, hidden_dims=(4, 5), hidden_strides=(8, 8))
VOCABULARY = Vocabulary.from_names(["cat", "dog", "frog"])
TEXT = OneHotTextEncoder(["cat", "dog", "frog"])(VOCABULARY)


def make_sample(name: str, class_ids: tuple[int, ...]) -> Sample:
    return Sample(name, VOCABULARY, (32, 32), (32, 32), class_ids=class_ids)


def make_features(batch: int = 4) -> ImageFeatures:
    generator = torch.Generator().manual_seed(0)
    return ImageFeatures(
        (32, 32),
        image_embed=torch.randn(batch, 6, generator=generator),
        hidden={1: torch.randn(batch, 5, 4, 4, generator=generator)},
        prefix={1: torch.randn(batch, 2, 5, generator=generator)},
    )


def make_head(**arguments) -> LinearHead:
    torch.manual_seed(0)
    return LinearHead(SPEC, text_dim=3, init_std=1.0, **arguments)


def test_each_source_is_what_it_says():
    features = make_features()
    expected = {
        "image_embed": features.image_embed,
        "class_token": features.prefix[1][:, 0],
        "mean": features.hidden[1].flatten(2).sum(2) / 16,
    }
    for source, pooled in expected.items():
        head = make_head(source=source, norm=False)
        torch.testing.assert_close(head.pooled(features), pooled)
        torch.testing.assert_close(head(features, TEXT), pooled @ head.project.weight.T + head.project.bias)
        assert head.layers == (() if source == "image_embed" else (1,))


def test_norm_makes_the_logits_blind_to_shift_and_scale_of_the_features():
    head, features = make_head(source="image_embed"), make_features()
    moved = ImageFeatures((32, 32), image_embed=7 * features.image_embed + 3)
    torch.testing.assert_close(head(features, TEXT), head(moved, TEXT), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_smoothed_cross_entropy(smoothing):
    head, features = make_head(label_smoothing=smoothing), make_features()
    losses = head.loss(features, TEXT, [make_sample(str(i), (label,)) for i, label in enumerate((2, 0, 1, 1))])
    logits = head(features, TEXT).detach().double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = np.full((4, 3), smoothing / 3)
    target[np.arange(4), [2, 0, 1, 1]] += 1 - smoothing
    assert list(losses) == ["loss_class"]
    assert losses["loss_class"].item() == pytest.approx(-(target * np.log(probabilities)).sum() / 4, rel=1e-5)


def test_mixing_keeps_sums_and_pairs_features_with_their_targets():
    torch.manual_seed(0)
    targets = torch.eye(8)
    features, mixed = mix_pairs(targets * 10, targets, alpha=5.0)
    torch.testing.assert_close(features, 10 * mixed)  # each row's features and targets went the same way
    torch.testing.assert_close(mixed.sum(1), torch.ones(8))
    torch.testing.assert_close(mixed.sum(0), torch.ones(8))
    assert (mixed > 0).sum() > 8 and len(mixed[mixed > 0].unique()) <= 3  # one share for all pairs


def test_mixup_changes_training_only_and_follows_the_seed():
    head, features = make_head(mixup=0.8), make_features()
    samples = [make_sample(str(i), (i % 3,)) for i in range(4)]
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(head.loss(features, TEXT, samples)["loss_class"].item())
    assert losses[0] == losses[1] != losses[2]
    torch.testing.assert_close(head(features, TEXT), make_head()(features, TEXT))


def test_a_zero_start_predicts_all_classes_alike_and_still_learns():
    torch.manual_seed(0)
    head, features = LinearHead(SPEC, 3, init_std=0.0), make_features()
    assert not head(features, TEXT).any()
    loss = head.loss(features, TEXT, [make_sample(str(i), (i % 3,)) for i in range(4)])["loss_class"]
    assert loss.item() == pytest.approx(np.log(3))
    loss.backward()
    assert head.project.weight.grad.abs().sum() > 0


def test_synonym_rows_that_compete_take_the_best():
    head, features = make_head(norm=False), make_features()
    rows = TextFeatures(torch.eye(3), torch.tensor(1.0), row_class=torch.tensor([0, 0, 1]))
    plain = head(features, TEXT)
    expected = torch.stack([plain[:, :2].amax(1), plain[:, 2]], dim=1)
    torch.testing.assert_close(head(features, rows), expected)


def test_logits_are_float32_under_autocast():
    head, features = make_head(), make_features()
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(features, TEXT)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, head(features, TEXT), atol=0.05, rtol=0.05)


def test_samples_without_a_single_class_of_the_vocabulary_are_named():
    head, features = make_head(), make_features(1)
    for ids, message in (((), "'a'.*got \\(\\)"), ((0, 1), "'a'.*one class"), ((3,), "'a': class 3.*3 classes")):
        with pytest.raises(ValueError, match=message):
            head.loss(features, TEXT, [make_sample("a", ids)])


def test_wrong_arguments_are_clear():
    for arguments, message in (
        (dict(source="pixels"), "source: expected one of image_embed"),
        (dict(layer=2), "layer: expected 0 to 1"),
        (dict(label_smoothing=1.0), "label_smoothing"),
        (dict(mixup=-1.0), "mixup"),
    ):
        with pytest.raises(ValueError, match=message):
            LinearHead(SPEC, 3, **arguments)
    with pytest.raises(ValueError, match="no joint space"):
        LinearHead(BackboneSpec(None, 8, (4,), (8,)), 3, source="image_embed")
    without_token = ImageFeatures((32, 32), hidden=make_features().hidden)
    with pytest.raises(ValueError, match="no class token; use source='mean'"):
        make_head()(without_token, TEXT)


def tower(kind: str) -> nn.Module:
    if kind == "clip":
        return CLIPBackbone("ViT-Ti-8-shapes")
    small = dict(embed_dim=32, depth=2, num_heads=2)
    args = {
        "vit": ("vit_tiny_patch16_224", small),
        "hybrid": ("vit_tiny_r_s16_p8_224", small),
        "pyramid": ("resnet18", {}),
    }
    name, model_args = args[kind]
    return TimmBackbone(name, model_args=model_args)


@pytest.mark.parametrize(
    ("kind", "source"),
    [("clip", "image_embed"), ("clip", "class_token"), ("vit", "class_token"), ("vit", "mean"),
     ("hybrid", "class_token"), ("pyramid", "mean")],
)  # fmt: skip
def test_a_whole_model_with_fixed_classes_learns_its_batch(kind, source):
    torch.manual_seed(0)
    model = OpenVocabModel(
        tower(kind), OneHotTextEncoder(VOCABULARY.class_names), dict(type=LinearHead, source=source, init_std=0.0)
    )
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(3)]
    data = {"image": images, "sample": [make_sample(str(i), (i,)) for i in range(3)]}
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.005)
    losses = []
    model.train()
    for _ in range(3):
        (loss,) = model(**model.data_preprocessor(data, training=True), mode="loss").values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(3)) and losses[2] < losses[1] < losses[0]
    with torch.no_grad():
        predictions = model(**model.data_preprocessor(data), mode="predict")
    assert [prediction.logits.shape for prediction in predictions] == [(3,)] * 3
