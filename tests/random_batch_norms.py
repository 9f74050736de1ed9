"""Batch norms that do something: a new one is nearly the identity, and open_clip starts some at zero."""

from torch import nn


def randomise_batch_norms(module: nn.Module) -> None:
    """Draw weights, biases and running statistics of every batch norm in a module."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)
