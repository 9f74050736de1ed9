"""Figures of the bfloat16 probe that tests put in its place: no choice of a test depends on the machine."""

import pytest

from openvocab.process import bfloat16_probe
from openvocab.process.bfloat16_probe import BFloat16Gain

FAST, SLOW = BFloat16Gain(products=2.1, convolutions=1.9), BFloat16Gain(products=0.2, convolutions=0.25)


def pretend(monkeypatch: pytest.MonkeyPatch, gain: BFloat16Gain) -> None:
    """Let the probe report `gain`."""
    monkeypatch.setattr(bfloat16_probe, "_measure", lambda device, float32_precision: gain)
