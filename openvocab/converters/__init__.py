"""Converters of official checkpoints of other projects: pure functions `convert(state_dict) -> state_dict`."""

from openvocab.converters import detpro, groupvit, lseg, owlv2, vild

CONVERTERS = {
    "detpro": detpro.convert,
    "groupvit": groupvit.convert,
    "lseg": lseg.convert,
    "owlv2": owlv2.convert,
    "vild": vild.convert,
}
"""{name in `tools/convert_checkpoint.py`: converter}."""
