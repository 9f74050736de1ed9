"""Windows of a map: which tokens share one, by plain loops; and their attention, window by window."""

import pytest
import torch

from openvocab.layers.window_attention import WindowAttention, cut_windows, relative_positions, separations

CPU = torch.device("cpu")


def make_attention(window: int, shift: int) -> WindowAttention:
    torch.manual_seed(0)
    attention = WindowAttention(12, 3, window, shift).eval()
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return attention


def regions(size: int, window: int, shift: int) -> list[int]:
    """For each position of a padded axis after the roll: which part of the axis it is in."""
    return [0 if i < size - window else 1 if i < size - shift else 2 for i in range(size)]


def by_loops(attention: WindowAttention, maps: torch.Tensor, window: int, shift: int) -> torch.Tensor:
    """Pad, roll, and attend in every window with the mask of the official code, one pair of tokens at a time."""
    height, width = maps.shape[1:3]
    rows, columns = -(-height // window) * window, -(-width // window) * window
    padded = torch.zeros(len(maps), rows, columns, maps.shape[3])
    padded[:, :height, :width] = maps
    rolled = padded.roll((-shift, -shift), (1, 2))
    down, across = regions(rows, window, shift), regions(columns, window, shift)
    result = torch.zeros_like(rolled)
    for top in range(0, rows, window):
        for left in range(0, columns, window):
            spots = [(top + i, left + j) for i in range(window) for j in range(window)]
            bias = torch.zeros(len(spots), len(spots), 3)
            for a, (i, j) in enumerate(spots):
                for b, (k, m) in enumerate(spots):
                    row = (i - k + window - 1) * (2 * window - 1) + j - m + window - 1
                    bias[a, b] = attention.relative_position_bias_table[row]
                    if shift and (down[i], across[j]) != (down[k], across[m]):
                        bias[a, b] -= 100
            x = torch.stack([rolled[:, i, j] for i, j in spots], 1)  # (B, n, C)
            q, k, v = attention.qkv(x).unflatten(2, (3, 3, 4)).unbind(2)  # (B, n, heads, d)
            scores = torch.einsum("bihd,bjhd->bijh", q, k) / 2 + bias
            mixed = torch.einsum("bijh,bjhd->bihd", scores.softmax(2), v).flatten(2)
            for a, (i, j) in enumerate(spots):
                result[:, i, j] = attention.proj(mixed[:, a])
    return result.roll((shift, shift), (1, 2))[:, :height, :width]


@pytest.mark.parametrize("grid_size", [(6, 9), (7, 8), (4, 10), (2, 2), (3, 3), (1, 7)])
@pytest.mark.parametrize("shift", [0, 1])
@torch.no_grad()
def test_attention_in_windows_is_that_of_loops(grid_size, shift):
    attention = make_attention(3, shift)
    maps = torch.randn(2, *grid_size, 12, generator=torch.Generator().manual_seed(1))
    windows = cut_windows(2, grid_size, 3, shift, CPU)
    actual = attention(maps.flatten(0, 2), windows).view(maps.shape)
    torch.testing.assert_close(actual, by_loops(attention, maps, 3, shift), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shift", [0, 2])
def test_every_token_has_one_slot_and_every_slot_a_token_or_padding(shift):
    windows = cut_windows(3, (6, 11), 5, shift, CPU)
    assert sum(windows.kinds) * 25 == len(windows.token_of) == 3 * 10 * 15
    assert windows.token_of[windows.slot_of].equal(torch.arange(3 * 6 * 11))
    slots = torch.cat([windows.slot_of, windows.padding])
    assert slots.sort().values.equal(torch.arange(3 * 10 * 15))
    assert windows.kinds == ((6 * 3,) if shift == 0 else (2 * 3, 3, 2 * 3, 3))


def test_relative_positions_are_symmetric_about_the_center():
    index = relative_positions(4)
    assert index.diagonal().unique().tolist() == [24] and (index + index.T).unique().tolist() == [48]
    assert index[0, 1] == 23 and index[1, 0] == 25 and index[4, 0] == 31


def test_only_tokens_from_opposite_borders_are_separated():
    kinds = separations(4, 2)
    assert kinds.shape == (4, 16, 16) and not kinds[0].any()
    assert kinds[1][0, 2] == -100 and kinds[1][0, 8] == 0 and kinds[2][0, 8] == -100 and kinds[2][0, 2] == 0
    assert separations(4, 0).shape == (1, 16, 16)


def test_the_bias_is_remembered_until_the_weights_change():
    attention, windows = make_attention(3, 1), cut_windows(1, (5, 5), 3, 1, CPU)
    tokens = torch.randn(25, 12)
    with torch.no_grad():
        before = attention(tokens, windows)
        remembered = attention._remembered[1]
        attention(tokens, windows)
        assert attention._remembered[1] is remembered
        attention.relative_position_bias_table.mul_(3)
        changed = attention(tokens, windows)
        assert not torch.allclose(changed, before)
        state = attention.state_dict()
        assert torch.equal(make_loaded(state)(tokens, windows), changed)
        attention.load_state_dict({**state, "relative_position_bias_table": state["relative_position_bias_table"] / 3})
        torch.testing.assert_close(attention(tokens, windows), before)
    trained = attention(tokens, windows)
    trained.sum().backward()
    assert attention.relative_position_bias_table.grad.abs().sum() > 0


def test_a_bias_from_inference_mode_does_not_break_gradients_of_frozen_weights():
    attention, windows = make_attention(3, 1).requires_grad_(False), cut_windows(1, (5, 5), 3, 1, CPU)
    with torch.inference_mode():
        expected = attention(torch.ones(25, 12), windows)
    tokens = torch.ones(25, 12, requires_grad=True)
    actual = attention(tokens, windows)
    actual.square().sum().backward()
    torch.testing.assert_close(actual.detach(), expected.clone())
    assert tokens.grad.isfinite().all()


def make_loaded(state) -> WindowAttention:
    attention = WindowAttention(12, 3, 3, 1).eval()
    attention.load_state_dict(state)
    return attention
