"""Fine-tuning at a higher resolution: the same weights at 224 and 384 px say nearly the same of the same picture."""

import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.config.config import read_config
from openvocab.heads.linear import LinearHead
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS
from openvocab.structures import Sample
from openvocab.text.one_hot import OneHotTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

CLASSES = Vocabulary.from_names([f"class {index}" for index in range(10)])
SMALL = dict(embed_dim=64, depth=3, num_heads=2)


def smooth_pictures(count: int, size: int) -> Tensor:
    """Pictures without detail, (count, 3, size, size), which no resizing can damage."""
    noise = torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, size=(size, size), mode="bicubic", align_corners=True)


def smooth_positions(grid: int, width: int) -> Tensor:
    """Position embeddings as training makes them: neighbors are alike, (grid * grid, width)."""
    noise = torch.randn(1, width, 3, 3, generator=torch.Generator().manual_seed(1))
    maps = F.interpolate(noise, size=(grid, grid), mode="bicubic", align_corners=True)
    return 0.5 * maps[0].flatten(1).T


def timm_model(source: str) -> OpenVocabModel:
    torch.manual_seed(0)
    backbone = TimmBackbone("vit_tiny_patch16_224", model_args=SMALL)
    with torch.no_grad():
        backbone.visual.pos_embed[0, 1:] = smooth_positions(14, 64)
        nn.init.normal_(backbone.visual.cls_token)
    head = dict(type=LinearHead, source=source, init_std=1.0)
    return OpenVocabModel(backbone, OneHotTextEncoder(CLASSES.class_names), head).eval()


def clip_model(source: str) -> OpenVocabModel:
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes")
    with torch.no_grad():
        backbone.visual.positional_embedding[1:] = smooth_positions(8, 192)
    head = dict(type=LinearHead, source=source, init_std=1.0)
    return OpenVocabModel(backbone, OneHotTextEncoder(CLASSES.class_names), head).eval()


def logits(model: OpenVocabModel, images: Tensor) -> Tensor:
    size = tuple(images.shape[-2:])
    samples = [Sample(str(index), CLASSES, size, size) for index in range(len(images))]
    with torch.no_grad():
        return model(images, samples, mode="tensor")


@pytest.mark.parametrize(
    ("make", "source", "low", "high"),
    [
        (timm_model, "class_token", 224, 384),
        (timm_model, "mean", 224, 384),
        (clip_model, "image_embed", 64, 112),
    ],
    ids=["class_token", "mean", "clip"],
)
def test_outputs_are_finite_and_close_on_the_resized_picture(make, source, low, high):
    model, pictures = make(source), smooth_pictures(4, low)
    resized = F.interpolate(pictures, size=(high, high), mode="bilinear", align_corners=False)
    before, after = logits(model, pictures), logits(model, resized)
    assert after.isfinite().all()
    moved = (after - before).norm(dim=1)
    between_pictures = torch.cdist(before, before)[~torch.eye(4, dtype=torch.bool)].min()
    assert moved.max() < 0.25 * between_pictures
    assert torch.equal(before.argmax(1), after.argmax(1))


def test_the_384_config_takes_the_weights_of_the_224_config():
    init_default_scope("openvocab")
    states = []
    for name, size in (("vit_cifar10", (224, 224)), ("vit_cifar10_384", (384, 384))):
        config = read_config(REPOSITORY / "configs" / f"{name}.py")
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            assert loader.dataset.pipeline[0].size == size
        with torch.device("meta"):
            model = MODELS.build(without_weights(config.model.to_dict()))
        states.append({key: value.shape for key, value in model.state_dict().items()})
    assert states[0] == states[1]


def test_gradients_reach_the_positions_through_the_resampling():
    model = timm_model("class_token")
    size = (384, 384)
    features = model.backbone(smooth_pictures(1, 384), model.head.layers)
    model.head(features, model.text_encoder(CLASSES)).square().sum().backward()
    gradient = model.backbone.visual.pos_embed.grad
    assert gradient.shape == (1, 1 + 14 * 14, 64) and (gradient.abs().sum(-1) > 0).all()
    assert features.input_size == size
