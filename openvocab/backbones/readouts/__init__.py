"""Training-free dense readouts of CLIP towers, by their names in `CLIPBackbone(readout=...)`; one file per method.

With x the tokens that enter the last block, q, k and v its projections of ln_1(x), and s = 1 / sqrt(d), per head:

    clip      the unchanged tower                                 arXiv 2103.00020
    value     v                                                   the "MaskCLIP" baseline of later papers
    maskclip  v, then residual and feed-forward network           arXiv 2112.01071
    sclip     (softmax(s q qT) + softmax(s k kT)) v,              arXiv 2312.01597
              then residual and feed-forward network
    clearclip softmax(s q qT) v                                   arXiv 2407.12442
    naclip    softmax(s k kT + G) v, G a Gaussian window          arXiv 2404.08181
    scclip    outliers replaced, weights from the middle blocks   arXiv 2411.15869
    sfp       the same with other outliers and weights
    rfclip    sinks damped, mean of the k kT of all blocks

All but `clip`, `maskclip` and `sclip` omit the residual connections and the feed-forward network of the last block:
ClearCLIP found that these dominate the output and add noise.
"""

from openvocab.backbones.readouts.base import AttentionReadout, ForwardPass, Readout, build_readout, known_readouts
from openvocab.backbones.readouts.clearclip import ClearCLIP
from openvocab.backbones.readouts.clip import Plain
from openvocab.backbones.readouts.maskclip import MaskCLIP
from openvocab.backbones.readouts.naclip import NACLIP
from openvocab.backbones.readouts.rfclip import RFCLIP
from openvocab.backbones.readouts.scclip import SCCLIP
from openvocab.backbones.readouts.sclip import SCLIP
from openvocab.backbones.readouts.sfp import SFP
from openvocab.backbones.readouts.value import Value

__all__ = [
    "NACLIP",
    "RFCLIP",
    "SCCLIP",
    "SFP",
    "SCLIP",
    "AttentionReadout",
    "ClearCLIP",
    "ForwardPass",
    "MaskCLIP",
    "Plain",
    "Readout",
    "Value",
    "build_readout",
    "known_readouts",
]
