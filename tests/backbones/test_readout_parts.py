"""The parts of SC-CLIP, SFP and RF-CLIP against their equations, in loops."""

import numpy as np
import pytest
import torch

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.readouts import build_readout, scclip
from openvocab.backbones.readouts.base import ForwardPass
from openvocab.backbones.readouts.scclip import local_outlier_factors
from openvocab.backbones.readouts.similarity import aggregate, contrast_softmax, cosines, fill_outliers, keep_similar
from openvocab.layers.attention_block import CLIPBlock

GRID = (3, 4)
COUNT = 12


def make_patches(batch: int = 2, width: int = 6) -> torch.Tensor:
    base, offsets = torch.randn(2, batch, COUNT, width, generator=torch.Generator().manual_seed(0))
    return base[:, :1] + offsets  # alike, more or less


def neighbors(i: int) -> list[int]:
    """Places of the 3 x 3 neighborhood within the map, itself included."""
    row, column = divmod(i, GRID[1])
    rows, columns = range(max(row - 1, 0), min(row + 2, GRID[0])), range(max(column - 1, 0), min(column + 2, GRID[1]))
    return [GRID[1] * y + x for y in rows for x in columns]


def test_outliers_are_filled_from_sound_neighbors():
    patches = make_patches()
    outliers = torch.zeros(2, COUNT, dtype=torch.bool)
    outliers[0, [0, 1, 4, 5, 7]] = True  # the corner 0 has no sound neighbor
    filled, stranded = fill_outliers(patches, outliers, GRID)
    assert stranded.nonzero().tolist() == [[0, 0, 0]]
    for i in range(COUNT):
        sound = [j for j in neighbors(i) if not outliers[0, j]]
        expected = patches[0, i] if not outliers[0, i] else patches[0, sound].sum(0) / max(len(sound), 1)
        torch.testing.assert_close(filled[0, i], expected)
    assert filled[1].equal(patches[1])


def test_contrast_softmax_is_literal_and_of_each_image():
    similarity = cosines(make_patches())
    for share in (1.0, 1.2):
        weights = contrast_softmax(similarity, 3.0, share)
        for image, given in zip(weights, similarity):
            scores = 3 * (given - share * given.mean())
            for i in range(COUNT):
                chosen = [j for j in range(COUNT) if scores[i, j] >= 0 or i == j]
                expected = torch.zeros(COUNT)
                expected[chosen] = scores[i, chosen].softmax(0)
                torch.testing.assert_close(image[i], expected)


def test_means_of_alike_patches():
    patches = make_patches()
    similarity = torch.nn.functional.cosine_similarity(patches[:, :, None], patches[:, None], dim=-1)
    weights = keep_similar(cosines(patches))
    torch.testing.assert_close(weights, torch.where(similarity < 0.4, 0.0, similarity), atol=1e-6, rtol=1e-5)
    mean = aggregate(patches, weights)
    for i in range(COUNT):
        expected = sum(weights[0, i, j] * patches[0, j] for j in range(COUNT)) / (weights[0, i].sum() + 1e-6)
        torch.testing.assert_close(mean[0, i], expected)


@pytest.mark.parametrize("count", [4, 30])
def test_outlier_factors_are_literal(monkeypatch, count):
    monkeypatch.setattr(scclip, "NEIGHBORS", count)
    patches = make_patches()
    count = min(count, COUNT - 1)
    factors = local_outlier_factors(patches)
    rows = patches[0].double().numpy()
    distances = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    order = [np.array([j for j in np.argsort(distances[i]) if j != i][:count]) for i in range(COUNT)]
    reach = np.array([distances[i, order[i][-1]] for i in range(COUNT)])
    expected = [reach[i] * np.mean(1 / reach[order[i]]) for i in range(COUNT)]
    torch.testing.assert_close(factors[0].double(), torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_a_lone_patch_is_no_outlier():
    assert local_outlier_factors(torch.ones(2, 1, 4)).tolist() == [[0.0], [0.0]]


def test_sinks_are_mixed_with_their_neighborhood():
    readout = build_readout(dict(type="rfclip", sink_channels=(2,)))
    tokens = torch.rand(1, 1 + COUNT, 100, generator=torch.Generator().manual_seed(0))
    tokens[0, 1 + 5, 2] = 50.0  # patch 5, channel 2
    tokens[0, 1 + 6, 3] = 50.0  # another channel
    damped = readout.after_block(tokens, GRID)
    patches = tokens[0, 1:]
    assert readout.sinks(tokens[:, 1:]).nonzero().tolist() == [[0, 5]]
    expected = 0.6 * patches[5] + 0.4 * patches[neighbors(5)].sum(0) / 9
    torch.testing.assert_close(damped[0, 1 + 5], expected)
    untouched = [i for i in range(1 + COUNT) if i != 1 + 5]
    assert damped[0, untouched].equal(tokens[0, untouched])


@torch.no_grad()
def test_outliers_of_sfp_draw_the_class_tokens_attention():
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes").eval()
    blocks = list(backbone.visual.transformer.resblocks)
    for parameter in blocks[2].parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    tokens = torch.randn(1, 1 + COUNT, 192)
    outliers = build_readout("sfp").outliers(ForwardPass([CLIPBlock(block) for block in blocks], {2: tokens}, GRID))[0]
    block = blocks[2]
    normed = block.ln_1(tokens)
    _, weights = block.attn(normed, normed, normed, need_weights=True, average_attn_weights=True)
    from_class, to_itself = weights[0, 0, 1:], weights[0].diagonal()[1:]
    candidates = [i for i in range(COUNT) if 1.5 * from_class[i] > to_itself[i]]
    candidates = sorted(candidates, key=lambda i: -from_class[i])[:10]
    assert 0 < len(candidates) < COUNT
    assert sorted(candidates) == outliers.nonzero().flatten().tolist()
