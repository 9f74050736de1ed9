"""Official checkpoints of other projects in our names: pure functions `convert(state_dict) -> state_dict`."""

from openvocab.converters import detpro, groupvit, lseg, vild

CONVERTERS = {
    "detpro": detpro.convert,
    "groupvit": groupvit.convert,
    "lseg": lseg.convert,
    "vild": vild.convert,
}
"""By the name that `tools/convert_checkpoint.py` takes."""
