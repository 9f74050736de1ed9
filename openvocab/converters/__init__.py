"""Official checkpoints of other projects in our names: pure functions `convert(state_dict) -> state_dict`."""

from openvocab.converters import groupvit, lseg

CONVERTERS = {"groupvit": groupvit.convert, "lseg": lseg.convert}
"""By the name that `tools/convert_checkpoint.py` takes."""
