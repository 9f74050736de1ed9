"""Converters of official checkpoints of other projects: pure functions `convert(state_dict) -> state_dict`."""

from openvocab.converters import detpro, groupvit, lseg, vild

CONVERTERS = {
    "detpro": detpro.convert,
    "groupvit": groupvit.convert,
    "lseg": lseg.convert,
    "vild": vild.convert,
}
"""{name in `tools/convert_checkpoint.py`: converter}."""
