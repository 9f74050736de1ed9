"""SC-CLIP, SFP and RF-CLIP from the image to the embedding, against their equations in numpy and float64.

A tower of 12 blocks, as in the papers; f[i] are the tokens that leave block i, the class token first.
"""

import numpy as np
import pytest
import torch
from open_clip.transformer import VisionTransformer

from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import build_readout

HEIGHT, WIDTH = 6, 7
COUNT, HEADS, CHANNELS = HEIGHT * WIDTH, 4, 32
SINK_CHANNELS = (3, 17)


@pytest.fixture(scope="module")
def visual() -> VisionTransformer:
    """Patches that are more and less alike, attention far from uniform, and a few sinks from block 3 on."""
    torch.manual_seed(0)
    visual = VisionTransformer(48, 8, CHANNELS, layers=12, heads=HEADS, mlp_ratio=2.0, output_dim=16)
    for name, parameter in visual.named_parameters():
        parameter.data.add_((0.15 if "attn" in name else 0.05) * torch.randn_like(parameter))
    visual.transformer.resblocks[2].mlp.c_proj.weight.data[SINK_CHANNELS[0]] *= 60
    return visual.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 3, 8 * HEIGHT, 8 * WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def ours(visual: VisionTransformer, image: torch.Tensor, readout) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return our patch embeddings (N, D), and the tokens (1 + N, C) that enter block 1 and leave every block."""
    reader = VisionTransformerReader(visual, build_readout(readout), "bicubic_offset", checkpointing=False)
    features = reader(image, range(13), True)
    tokens = {i: torch.cat([features.prefix[i][0], features.hidden[i][0].flatten(1).T]) for i in range(13)}
    return features.patch_embed[0].flatten(1).T.numpy(), {i: rows.numpy() for i, rows in tokens.items()}


def norm(layer: torch.nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + layer.eps) * layer.weight.numpy() + layer.bias.numpy()


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def project(block, tokens: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return q, k and v of ln_1(tokens), (heads, N, d) each."""
    packed = norm(block.ln_1, tokens) @ block.attn.in_proj_weight.numpy().T + block.attn.in_proj_bias.numpy()
    return tuple(part.reshape(len(tokens), HEADS, -1).transpose(1, 0, 2) for part in np.split(packed, 3, axis=1))


def attention(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return softmax(a @ b.transpose(0, 2, 1) / np.sqrt(a.shape[-1]))


def output(block, mixed: np.ndarray) -> np.ndarray:
    """Join the heads (heads, N, d) and project."""
    joined = mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1)
    return joined @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()


def embedded(visual: VisionTransformer, tokens: np.ndarray) -> np.ndarray:
    return norm(visual.ln_post, tokens) @ visual.proj.numpy()


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def alike(rows: np.ndarray) -> np.ndarray:
    """Return the cosines of rows, 0 where below 0.4."""
    similarity = unit(rows) @ unit(rows).T
    return np.where(similarity < 0.4, 0, similarity)


def neighbors(i: int) -> list[int]:
    row, column = divmod(i, WIDTH)
    neighbors = [(row + y, column + x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return [WIDTH * y + x for y, x in neighbors if 0 <= y < HEIGHT and 0 <= x < WIDTH]


def outliers_of_scclip(f: dict[int, np.ndarray]) -> np.ndarray:
    """Of 42 patches: those above the 0.95 quantile of d_i * mean of 1 / d_j over the 30 nearest patches j."""
    patches = f[11][1:]
    distances = ((patches[:, None] - patches[None]) ** 2).sum(-1)
    nearest = [[j for j in np.argsort(distances[i]) if j != i][:30] for i in range(COUNT)]
    reach = np.array([distances[i, nearest[i][-1]] for i in range(COUNT)])
    factors = np.array([reach[i] * np.mean(1 / reach[nearest[i]]) for i in range(COUNT)])
    return factors > np.quantile(factors, 0.95)


def outliers_of_sfp(visual: VisionTransformer, f: dict[int, np.ndarray]) -> np.ndarray:
    """Ten at most, the largest of those that the class token looks at over 1.5 times as much as they at themselves."""
    q, k, _ = project(visual.transformer.resblocks[10], f[10])
    weights = attention(q, k).mean(0)
    from_class, to_itself = weights[0, 1:], np.diagonal(weights)[1:]
    candidates = [i for i in np.argsort(-from_class) if 1.5 * from_class[i] > to_itself[i]][:10]
    return np.isin(np.arange(COUNT), candidates)


def calibrated(visual: VisionTransformer, f: dict[int, np.ndarray], name: str) -> np.ndarray:
    """Return the embeddings of the patches by SC-CLIP or SFP."""
    last = visual.transformer.resblocks[-1]
    outliers = outliers_of_scclip(f) if name == "scclip" else outliers_of_sfp(visual, f)
    assert 0 < outliers.sum() < COUNT

    def filled(patches: np.ndarray) -> np.ndarray:
        result = patches.copy()
        for i in outliers.nonzero()[0]:
            sound = [j for j in neighbors(i) if not outliers[j]]
            if sound or name == "sfp":
                result[i] = patches[sound].mean(0) if sound else 0
        return result

    def aggregate(patches: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return weights / (weights.sum(1, keepdims=True) + 1e-6) @ patches

    middle = filled(f[9][1:])
    similarity = unit(middle) @ unit(middle).T
    contrast = similarity if name == "scclip" else alike(middle)
    scores = 3 * (contrast - contrast.mean())
    guide = softmax(np.where(scores < 0, -np.inf, scores))
    assert 0 < (similarity < 0.4).sum() < COUNT**2 - COUNT

    def attended(patches: np.ndarray, class_token: np.ndarray, again: bool) -> np.ndarray:
        q, k, v = project(last, patches)
        if name == "scclip":
            weights = (guide + attention(k, k)) / 2
        else:
            weights = guide + 0 * k[:, :, :1] if again else (attention(k, k) + attention(q, q) + guide) / 3
        return output(last, weights @ v) + 0.3 * class_token

    near = alike(f[4][1:])
    first = attended(aggregate(filled(f[11][1:]), alike(middle)), f[11][0], again=False)
    levels = sum(f[i] for i in range(4, 11))
    second = attended(levels[1:], levels[0], again=True)
    return embedded(visual, aggregate(first, near) + aggregate(second, near))


@pytest.mark.parametrize("name", ["scclip", "sfp"])
def test_self_calibration_equals_its_equations(name, visual, image):
    actual, f = ours(visual, image, name)
    np.testing.assert_allclose(actual, calibrated(visual, f, name), atol=1e-5)


def damped(tokens: np.ndarray) -> np.ndarray:
    """Return the tokens with sinks mixed with a ninth of the sum over their neighborhood."""
    result = tokens.copy()
    for i in range(COUNT):
        raised = tokens[1 + i] - tokens[1 + i].min()
        if (raised / raised.sum())[list(SINK_CHANNELS)].max() > 5 / CHANNELS:
            around = sum(tokens[1 + j] for j in neighbors(i)) / 9
            result[1 + i] = 0.6 * tokens[1 + i] + 0.4 * around
    return result


def test_rfclip_equals_its_equations(visual, image):
    actual, f = ours(visual, image, dict(type="rfclip", sink_channels=SINK_CHANNELS))
    blocks = list(visual.transformer.resblocks)
    sinks = 0
    for i, block in enumerate(blocks, start=1):
        left = block(torch.from_numpy(f[i - 1])[None])[0].numpy()
        sinks += (damped(left) != left).any(axis=1).sum()
        np.testing.assert_allclose(f[i], damped(left), atol=1e-9)
    assert 0 < sinks < 12 * COUNT

    def key_attention(block, tokens: np.ndarray) -> np.ndarray:
        k = project(block, tokens)[1]
        return attention(k, k)[:, 1:, 1:]

    guide = sum(f[i] for i in range(1, 13)) / 12
    weights = alike(guide[1:])
    read = []
    for tokens in (f[11], guide):
        tokens = np.concatenate([tokens[:1], weights @ tokens[1:]])
        mean = (sum(key_attention(blocks[i], f[i]) for i in range(11)) + key_attention(blocks[11], tokens)) / 12
        read.append(output(blocks[11], mean @ project(blocks[11], tokens)[2][:, 1:]))
    np.testing.assert_allclose(actual, embedded(visual, (read[0] + read[1]) / 2), atol=1e-5)
