"""What runs on a device gives there what it gives on the CPU: prediction, text rows, losses, boxes, random states."""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY, without_weights
from torch import nn

from openvocab import Predictor, load
from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.config.config import read_config
from openvocab.engine.muon import Muon
from openvocab.engine.precision import TOLERANCE, use_fast_matmul
from openvocab.engine.random_state import random_state, restore_random_state
from openvocab.losses import info_nce
from openvocab.losses.pixel import sampled_cross_entropy, upsampled_cross_entropy
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.ops.mask_encoding import encode_masks
from openvocab.ops.roi_align import roi_align
from openvocab.ops.upsampled_cosine import upsampled_cosine
from openvocab.postprocess import label_map_from_logits
from openvocab.teacher.region_teacher import RegionTeacher
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["red circle", "blue star", "anything else"]
TINY = "ViT-Ti-8-shapes"


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = read_config(REPOSITORY / "configs" / "lseg_shapes.py")
    config.model = without_weights(config.model.to_dict())
    return load(config, device="cpu").model


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def test_predictor_names_the_same_pixels(model, image, device):
    expected = Predictor(model)(image, NAMES)
    predictor = Predictor(copy.deepcopy(model).to(device))
    for form in (image, torch.from_numpy(image).to(device)):
        prediction = predictor(form, NAMES)
        assert isinstance(prediction.label_map, np.ndarray)
        assert np.mean(prediction.label_map != expected.label_map) < 0.01


def test_predictor_in_bfloat16_names_nearly_the_same_pixels(model, image, device):
    expected = Predictor(model)(image, NAMES)
    predictor = Predictor(copy.deepcopy(model).to(device).compute_in(torch.bfloat16))
    assert np.mean(predictor(image, NAMES).label_map != expected.label_map) < 0.2


@pytest.mark.parametrize("merge", ["mean", "max"])
def test_text_rows_agree_and_come_back_from_the_disk(device, tmp_path, merge):
    vocabulary = Vocabulary((("cat", "kitten"), ("dog",), ("a red bus",)), synonym_merge=merge)
    torch.manual_seed(0)
    encoder = CLIPTextEncoder(TINY, templates="imagenet7")
    on_device = CLIPTextEncoder(TINY, templates="imagenet7", cache_dir=str(tmp_path))
    on_device.load_state_dict(encoder.state_dict())
    on_device.to(device)
    text = on_device(vocabulary)
    assert text.embed.device.type == device
    torch.testing.assert_close(text.embed.cpu(), encoder(vocabulary).embed, atol=1e-4, rtol=1e-3)
    images = F.normalize(drawn(5, text.embed.shape[1]), dim=1).to(device)
    assert text.similarity(images).shape == (5, 3)

    again = copy.deepcopy(on_device)
    again.cache.clear_memory()
    again._encode_names = None  # every row has to come from the disk
    assert torch.equal(again(vocabulary).embed, text.embed)


def test_captions_agree(device):
    torch.manual_seed(0)
    encoder = CLIPTextEncoder(TINY, trainable="all")
    captions = ["a red circle left of a star", "a dog"]
    expected = encoder.with_tokens(captions)
    text = copy.deepcopy(encoder).to(device).with_tokens(captions)
    torch.testing.assert_close(text.embed.detach().cpu(), expected.embed.detach(), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "classes, grid, size", [(5, (4, 6), (64, 90)), (300, (16, 16), (256, 200)), (40, (9, 9), (9, 9))]
)
def test_label_maps_agree(device, classes, grid, size):
    logits = drawn(classes, *grid)
    expected = label_map_from_logits(logits, size)
    labels = label_map_from_logits(logits.to(device), size)
    assert labels.device.type == device and labels.dtype == expected.dtype
    assert (labels.cpu() != expected).float().mean() < 1e-3  # ties of rounding


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("cross_entropy", [upsampled_cross_entropy, sampled_cross_entropy])
def test_pixel_losses_and_their_gradients_agree(device, cross_entropy, align_corners):
    labels = torch.randint(0, 5, (2, 40, 56), generator=torch.Generator().manual_seed(0))
    results = []
    for place in ("cpu", device):
        logits = drawn(2, 5, 10, 14).to(place).requires_grad_()
        torch.manual_seed(0)  # of the pixels that are sampled
        loss = cross_entropy(logits, labels.to(place), align_corners)
        loss.backward()
        results.append((loss.detach().cpu(), logits.grad.cpu()))
    for expected, got in zip(*results):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_contrastive_losses_and_their_gradients_agree(device):
    results = []
    for place in ("cpu", device):
        images, texts = (F.normalize(drawn(70, 16, seed=seed), dim=1).to(place).requires_grad_() for seed in (0, 1))
        scale = torch.tensor(20.0, device=place, requires_grad=True)
        loss = info_nce(images, texts, scale)
        results.append([value.detach().cpu() for value in (loss, *torch.autograd.grad(loss, (images, texts, scale)))])
    for expected, got in zip(*results):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


def test_cosines_of_upsampled_embeddings_agree(device):
    embed, rows = drawn(2, 12, 6, 7), F.normalize(drawn(4, 12, seed=1), dim=1)
    got = upsampled_cosine(embed.to(device), rows.to(device))
    torch.testing.assert_close(got.cpu(), upsampled_cosine(embed, rows), atol=1e-5, rtol=1e-4)


def test_boxes_are_read_kept_and_encoded_alike(device):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 8 + 30 * torch.rand(60, 2, generator=generator)], dim=1)
    scores = torch.rand(60, 7, generator=generator)
    expected = class_wise_nms(boxes, scores, 0.5, 30)
    kept = class_wise_nms(boxes.to(device), scores.to(device), 0.5, 30)
    assert all(rows.device.type == device for rows in kept)
    assert all(torch.equal(*pair) for pair in zip(expected, (rows.cpu() for rows in kept)))

    values = drawn(2, 6, 25, 25).requires_grad_()
    regions = torch.cat([torch.arange(60)[:, None] % 2, boxes], dim=1)
    on_device = values.detach().to(device).requires_grad_()
    pooled = roi_align(values, regions, 7, 4, sampling_ratio=2)
    pooled_there = roi_align(on_device, regions.to(device), 7, 4, sampling_ratio=2)
    torch.testing.assert_close(pooled_there.cpu(), pooled, atol=1e-4, rtol=1e-4)
    pooled.square().sum().backward(), pooled_there.square().sum().backward()
    torch.testing.assert_close(on_device.grad.cpu(), values.grad, atol=1e-2, rtol=1e-3)

    masks = torch.rand(60, 28, 28, generator=generator)
    assert encode_masks(masks.to(device), boxes.to(device), (100, 100)) == encode_masks(masks, boxes, (100, 100))


def test_a_teacher_embeds_regions_alike(device, image):
    boxes = torch.tensor([[2.0, 3.0, 40.0, 30.0], [10.0, 10.0, 60.0, 45.0]])
    torch.manual_seed(0)
    (expected,) = RegionTeacher(TINY, device="cpu")([(image, boxes)])
    torch.manual_seed(0)
    (embeds,) = RegionTeacher(TINY, device=device)([(image, boxes)])
    assert embeds.device.type == "cpu"
    torch.testing.assert_close(embeds, expected, atol=1e-4, rtol=1e-3)


def test_products_are_true_float32_where_nothing_else_was_asked(device):
    use_fast_matmul("auto")
    inputs, weight = drawn(128, 1024), drawn(256, 1024, seed=1)
    exact = inputs.double() @ weight.double().T
    product = F.linear(inputs.to(device), weight.to(device)).cpu()
    assert float((product - exact).norm() / exact.norm()) < TOLERANCE


def test_random_states_continue(device):
    def draws():
        return random.random(), np.random.rand(), torch.rand(2), torch.rand(2, device=device).cpu()

    draws()
    state = random_state()
    expected = draws()
    draws()
    restore_random_state([state])
    assert all(torch.equal(torch.as_tensor(want), torch.as_tensor(got)) for want, got in zip(expected, draws()))


def test_muon_resumes_bit_for_bit_from_a_checkpoint(device, tmp_path):
    def steps(layer, optimizer, first, last):
        for step in range(first, last):
            optimizer.zero_grad()
            layer(drawn(8, 6, seed=step).to(device)).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    layer = nn.Linear(6, 4).to(device)
    optimizer = Muon(layer.parameters(), lr=0.01)
    steps(layer, optimizer, 0, 3)
    save_checkpoint({"state_dict": layer.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pth")
    saved = load_checkpoint(tmp_path / "a.pth")
    other = nn.Linear(6, 4).to(device)
    other.load_state_dict(saved["state_dict"])
    resumed = Muon(other.parameters(), lr=0.01)
    resumed.load_state_dict(saved["optimizer"])
    steps(layer, optimizer, 3, 6), steps(other, resumed, 3, 6)
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer.bias, other.bias)
