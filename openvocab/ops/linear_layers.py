"""Two linear layers in a row, or one on a concatenation, in fewer operations.

    norm(conv(x))  # `convolve_and_norm`
    linear(torch.cat([tokens, class_token.expand_as(tokens)], dim=channels))  # `project_readout`

Equal up to rounding.
"""

import torch.nn.functional as F
from torch import Tensor, nn


def convolve_and_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Return `norm(conv(x))`.

    At test time it is one convolution, whose weights are multiplied by the norm's factors.

    Args:
        conv: without a bias.
        x: (B, C, h, w).

    Returns:
        (B, C', h', w').
    """
    # with statistics of the batch, the factors depend on the output of the convolution
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return norm(conv(x))
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (C',)
    weight = conv.weight * gain[:, None, None, None]  # (C', C, kernel, kernel)
    bias = norm.bias - norm.running_mean * gain  # (C',)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)


def project_readout(linear: nn.Linear, tokens: Tensor, class_token: Tensor) -> Tensor:
    """Return `linear(torch.cat([tokens, class_token.expand_as(tokens)], dim=channels))`.

    The class token's half of the product is the same for every patch, and is computed once.

    Args:
        linear: a layer from 2C to C' channels.
        tokens: (B, C, h, w).
        class_token: (B, C).

    Returns:
        (B, C', h, w).
    """
    dim = tokens.shape[1]
    shared = F.linear(class_token, linear.weight[:, dim:], linear.bias)  # (B, C')
    of_patches = F.conv2d(tokens, linear.weight[:, :dim, None, None])  # (B, C', h, w)
    return of_patches + shared[:, :, None, None]
