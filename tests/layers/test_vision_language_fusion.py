"""The fusion of image and text: its ways of computing against the official order of operations, and the clamps."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.layers import vision_language_fusion as module
from openvocab.layers.vision_language_fusion import VisionLanguageFusion

LIMIT = 50000


def make_fusion(scale: float = 1.0, **arguments) -> VisionLanguageFusion:
    """With weights and biases that all matter; `scale` multiplies the queries' weights."""
    torch.manual_seed(0)
    fusion = VisionLanguageFusion(**(dict(dim=12, text_dim=10, heads=3, head_dim=8, gain=0.5) | arguments)).eval()
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        fusion.query.weight.mul_(scale)
    return fusion


def make_inputs(batch: int = 2, locations: int = 50, tokens: int = 6) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    vision = torch.randn(batch, locations, 12, generator=generator)
    text = torch.randn(batch, tokens, 10, generator=generator)
    return vision, text, torch.arange(tokens) < torch.tensor([[tokens], [tokens - 2]])[:batch]


def official(fusion: VisionLanguageFusion, vision, text, is_token) -> tuple[torch.Tensor, torch.Tensor]:
    """The official order of operations, one head at a time, with its mask of 1 and -9e15."""
    v = F.layer_norm(vision, vision.shape[-1:], fusion.vision_norm.weight, fusion.vision_norm.bias)
    t = F.layer_norm(text, text.shape[-1:], fusion.text_norm.weight, fusion.text_norm.bias)
    read_text, read_vision = [], []
    for head in range(fusion.heads):
        own = slice(head * fusion.head_dim, (head + 1) * fusion.head_dim)

        def project(linear, x, own=own):
            return x @ linear.weight[own].T + linear.bias[own]

        q, k = project(fusion.query, v) / fusion.head_dim**0.5, project(fusion.key, t)
        scores = (q @ k.transpose(1, 2)).clamp(-LIMIT, LIMIT)
        turned = scores.transpose(1, 2)
        turned = (turned - turned.amax(-1, keepdim=True)).clamp(-LIMIT, LIMIT)
        mask = torch.where(is_token, 1.0, -9e15)[:, None]
        read_text.append((scores + mask).softmax(-1) @ project(fusion.text_value, t))
        read_vision.append(turned.softmax(-1) @ project(fusion.vision_value, v))
    v_out, t_out = fusion.vision_out, fusion.text_out
    from_text = torch.cat(read_text, -1) @ v_out.weight.T + v_out.bias
    from_vision = torch.cat(read_vision, -1) @ t_out.weight.T + t_out.bias
    return v + fusion.vision_gain * from_text, t + fusion.text_gain * from_vision


@pytest.fixture
def taken(monkeypatch) -> list[str]:
    """The ways of computing that were taken."""
    names: list[str] = []
    for name in ("_mix", "_mix_clamped", "_stream_image"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *x, name=name, function=function: names.append(name) or function(*x))
    return names


@pytest.mark.parametrize("at_once", [1, 90, 2**20])
def test_prediction_streams_over_locations(at_once, taken, monkeypatch):
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    fusion, inputs = make_fusion(), make_inputs()
    with torch.no_grad():
        torch.testing.assert_close(fusion(*inputs), official(fusion, *inputs), rtol=1e-4, atol=1e-5)
    assert set(taken) == {"_stream_image"}


def test_training_uses_fused_attention_with_the_gradients_of_the_official_order(taken):
    fusion, inputs = make_fusion(), make_inputs()
    gradients = []
    for function in (fusion, lambda *x: official(fusion, *x)):
        fusion.zero_grad()
        vision, text = function(*inputs)
        (vision.square().sum() + text.square().sum()).backward()
        gradients.append([parameter.grad.clone() for parameter in fusion.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    assert taken == ["_mix"]


@pytest.mark.parametrize("scale", [3e4, 1e6])
@pytest.mark.parametrize("gradient", [False, True])
def test_scores_beyond_the_limit_are_clamped(scale, gradient, taken):
    fusion, inputs = make_fusion(scale), make_inputs()
    with torch.set_grad_enabled(gradient):
        actual = fusion(*inputs)
        torch.testing.assert_close(actual, official(fusion, *inputs), rtol=1e-4, atol=1e-4)
    assert taken == ["_mix_clamped"]
    # without clamps there would be one winner where there are several
    q = fusion._split(fusion.query(fusion.vision_norm(inputs[0]))) / fusion.head_dim**0.5
    scores = q @ fusion._split(fusion.key(fusion.text_norm(inputs[1]))).transpose(2, 3)
    assert (scores.abs() > LIMIT).any()


@torch.no_grad()
def test_the_plain_way_and_the_others_agree_below_the_limit(monkeypatch):
    fusion, inputs = make_fusion(), make_inputs()
    streamed = fusion(*inputs)
    monkeypatch.setattr(module, "_stay_below_limit", lambda *_: False)
    torch.testing.assert_close(fusion(*inputs), streamed, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_large_scores_below_the_limit_do_not_overflow(taken):
    fusion, inputs = make_fusion(300), make_inputs()
    actual = fusion(*inputs)
    assert set(taken) == {"_stream_image"} and all(part.isfinite().all() for part in actual)
    torch.testing.assert_close(actual, official(fusion, *inputs), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_padding_of_the_text_reaches_no_location_and_is_updated_itself():
    fusion, (vision, text, is_token) = make_fusion(), make_inputs()
    changed = text.clone()
    changed[1, 4:] += 10 * torch.randn(2, 10)
    first, second = fusion(vision, text, is_token), fusion(vision, changed, is_token)
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[1][is_token], second[1][is_token])
    assert not torch.allclose(first[1][1, 4:], second[1][1, 4:])


@torch.no_grad()
def test_padding_of_the_image_takes_part_in_the_text():
    """Officially so: an image should not be padded more than necessary."""
    fusion, (vision, text, is_token) = make_fusion(), make_inputs()
    padded = torch.cat([vision, torch.zeros(2, 10, 12)], dim=1)
    locations, tokens = fusion(padded, text, is_token)
    expected_locations, expected_tokens = fusion(vision, text, is_token)
    torch.testing.assert_close(locations[:, :50], expected_locations)
    assert not torch.allclose(tokens, expected_tokens, rtol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_finite_even_where_scores_overflow(dtype, scale):
    fusion, (vision, text, is_token) = make_fusion(min(scale, 3e3)), make_inputs()
    if scale > 1:
        fusion.key.weight.mul_(100)
        q = fusion._split(fusion.query(fusion.vision_norm(vision))) / fusion.head_dim**0.5
        scores = q @ fusion._split(fusion.key(fusion.text_norm(text))).transpose(2, 3)
        assert scores.abs().max() > torch.finfo(torch.float16).max
    exact = fusion(vision, text, is_token)
    rough = fusion.to(dtype)(vision.to(dtype), text.to(dtype), is_token)
    assert all(part.dtype == dtype and part.isfinite().all() for part in rough)
    if scale == 1:
        for part, other in zip(rough, exact):
            assert (part.float() - other).norm() < 0.03 * other.norm()


@torch.no_grad()
def test_prediction_under_autocast_streams_too(taken):
    fusion, inputs = make_fusion(), make_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        actual = fusion(*inputs)
    torch.testing.assert_close(actual, official(fusion, *inputs), rtol=1e-4, atol=1e-5)
    assert set(taken) == {"_stream_image"}


@torch.no_grad()
def test_double_precision_stays_double(taken):
    fusion, (vision, text, is_token) = make_fusion().double(), make_inputs()
    inputs = vision.double(), text.double(), is_token
    torch.testing.assert_close(fusion(*inputs), official(fusion, *inputs), rtol=1e-10, atol=1e-10)
    assert taken == ["_mix"]


def test_texts_that_do_not_belong_to_the_images_are_refused():
    fusion, (vision, text, is_token) = make_fusion(), make_inputs()
    with pytest.raises(ValueError, match="text: expected one per image, .* for 2 images"):
        fusion(vision, text[:1], is_token[:1])
    with pytest.raises(ValueError, match=r"is_token \(B, T\), got \(2, 6, 10\) and \(2, 5\)"):
        fusion(vision, text, is_token[:, 1:])


def test_dropout_and_drop_path_act_in_training_only():
    for arguments in (dict(dropout=0.5), dict(dropout=0.0, drop_path=0.5)):
        fusion, inputs = make_fusion(**arguments), make_inputs()
        with torch.no_grad():
            assert torch.equal(fusion(*inputs)[0], fusion(*inputs)[0])
            fusion.train()
            outputs = [fusion(*inputs)[0] for _ in range(8)]
        assert not all(torch.equal(output, outputs[0]) for output in outputs)


@torch.no_grad()
def test_mean_of_dropped_attention_is_the_attention():
    fusion, inputs = make_fusion(dropout=0.3), make_inputs()
    expected = fusion(*inputs)
    fusion.train()
    torch.manual_seed(0)
    outputs = [fusion(*inputs) for _ in range(1500)]
    for mean, other in zip((torch.stack(parts).mean(0) for parts in zip(*outputs)), expected):
        torch.testing.assert_close(mean, other, rtol=0.1, atol=0.1)


def test_the_first_gain_is_the_given_one():
    fusion = VisionLanguageFusion(gain=1 / 8)
    assert fusion.vision_gain.eq(1 / 8).all() and fusion.text_gain.eq(1 / 8).all()
    assert fusion.query.weight.shape == (2048, 256) and fusion.text_out.weight.shape == (768, 2048)
