"""CLIP's own interface: embeddings and probabilities equal to open_clip's on the same weights."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file

from openvocab import Predictor, load
from openvocab.clip.open_clip_model import create_clip
from openvocab.config.config import read_config
from openvocab.text.prompt_tokenizer import PromptTokenizer

TINY = "ViT-Ti-8-shapes"
NAMES = ["red circle", "blue star", "green square"]


@pytest.fixture(scope="module")
def clip():
    """open_clip's model with random weights, and CLIP's scale of 100."""
    torch.manual_seed(0)
    model = create_clip(TINY)
    torch.nn.init.normal_(model.visual.proj, std=0.5)
    torch.nn.init.constant_(model.logit_scale, math.log(100))
    return model


@pytest.fixture(scope="module")
def predictor(clip, tmp_path_factory) -> Predictor:
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, path)
    part = dict(model=TINY, pretrained=str(path))
    model = dict(
        type="OpenVocabModel",
        backbone=dict(type="CLIPBackbone", **part),
        text_encoder=dict(type="CLIPTextEncoder", templates=["a photo of a {}"], **part),
        head=dict(type="ContrastiveHead"),
    )
    return load(Config(dict(model=model)), device="cpu")


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]


@torch.no_grad()
def image_features(clip, images) -> torch.Tensor:
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return clip.encode_image((pixels - mean) / std)


@torch.no_grad()
def text_features(clip, texts) -> torch.Tensor:
    return clip.encode_text(PromptTokenizer(TINY, clip.text.context_length)(texts)[0])


@pytest.mark.parametrize("normalize", [False, True])
def test_images_are_embedded_as_by_open_clip(clip, predictor, images, normalize):
    expected = image_features(clip, images)
    assert expected.norm(dim=1).std() > 1e-3
    expected = F.normalize(expected, dim=-1) if normalize else expected
    got = predictor.encode_image(images, normalize=normalize, batch_size=2)
    assert got.dtype is torch.float32 and got.shape == (5, 128)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
def test_texts_are_embedded_as_by_open_clip(clip, predictor, normalize):
    texts = ["a red circle", "two blue stars above a square"]
    expected = text_features(clip, texts)
    expected = F.normalize(expected, dim=-1) if normalize else expected
    torch.testing.assert_close(predictor.encode_text(texts, normalize=normalize), expected, atol=2e-5, rtol=1e-4)


def test_one_image_or_text_is_one_row(predictor, images):
    rows = predictor.encode_image(images)
    torch.testing.assert_close(predictor.encode_image(images[1]), rows[1:2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predictor.encode_image(iter(images)), rows)
    assert predictor.encode_text("a star").shape == (1, 128)


def test_sizes_may_be_mixed_and_keep_their_order(predictor, images):
    mixed = [images[0], images[1][:48], images[2], images[3][:48], images[4]]
    rows = predictor.encode_image(mixed, batch_size=2)
    for row, image in zip(rows, mixed):
        torch.testing.assert_close(row, predictor.encode_image(image)[0], atol=1e-5, rtol=1e-4)


def test_probabilities_are_those_of_clips_readme(clip, predictor, images):
    texts = text_features(clip, [f"a photo of a {name}" for name in NAMES])
    texts = texts / texts.norm(dim=-1, keepdim=True)
    for image in images[:2]:
        row = image_features(clip, [image])
        row = row / row.norm(dim=-1, keepdim=True)
        expected = (100.0 * row @ texts.T).softmax(dim=-1)[0]
        prediction = predictor(image, NAMES)
        torch.testing.assert_close(prediction.probabilities, expected, atol=1e-4, rtol=1e-3)
        assert prediction.class_names == tuple(NAMES) and expected.max() < 0.999


def test_embeddings_can_be_learnt_from(predictor, images):
    """A linear probe needs tensors that autograd takes."""
    probe = torch.nn.Linear(128, 2)
    probe(predictor.encode_image(images) + predictor.encode_text("a star")).sum().backward()
    assert probe.weight.grad.abs().sum() > 0


def test_what_has_no_embedding_is_refused_with_a_way_out(predictor, images):
    whole = read_config(REPOSITORY / "configs" / "lseg_shapes.py")
    lseg = load(Config(dict(model=without_weights(whole.model))), device="cpu")
    with pytest.raises(ValueError, match="LSegHead has no embedding of whole images.*clip_zeroshot_folder"):
        lseg.encode_image(images)
    for texts, message in (([], "at least one"), (["a", " "], "caption 1")):
        with pytest.raises(ValueError, match=message):
            predictor.encode_text(texts)
    with pytest.raises(ValueError, match="at least one image"):
        predictor.encode_image([])
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        predictor.encode_image(images, batch_size=0)
    fixed = dict(type="OneHotTextEncoder", classes=NAMES)
    head, backbone = dict(type="LinearHead", source="image_embed"), dict(type="CLIPBackbone", model=TINY)
    model = dict(type="OpenVocabModel", backbone=backbone, text_encoder=fixed, head=head)
    with pytest.raises(ValueError, match="OneHotTextEncoder encodes class names only"):
        load(Config(dict(model=model)), device="cpu").encode_text("a star")
