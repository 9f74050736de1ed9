"""Convert an official checkpoint of another project to ours.

openvocab convert lseg demo_e200.ckpt lseg_ade.pth
openvocab test lseg_ade lseg_ade.pth

openvocab convert groupvit hf-hub:nvidia/groupvit-gcc-yfcc groupvit.pth
openvocab test groupvit_voc groupvit.pth --cfg-options model.head.multi_label.num_prompts=0

openvocab convert vild vild.safetensors vild.pth --clip ViT-B-32.pt

Published models that `openvocab models` lists are converted when they are first used. --json prints the path and the
number of entries.
"""

import argparse

from openvocab.commands.answers import write_answer
from openvocab.converters import CONVERTERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", choices=sorted(CONVERTERS), help="origin of the checkpoint")
    parser.add_argument(
        "checkpoint",
        help="the official file, a Hugging Face folder or hf-hub:OWNER/NAME; no code in it is run",
    )
    parser.add_argument("out", help="file to write")
    parser.add_argument("--clip", help="a CLIP whose text tower is added, for official files without one (vild)")


def run(arguments: argparse.Namespace) -> int:
    """Convert."""
    from openvocab.checkpoint.checkpoint import load_state_dict, save_checkpoint
    from openvocab.checkpoint.weights_file import weights_file
    from openvocab.converters.clip_text import text_tower

    state_dict = CONVERTERS[arguments.source](load_state_dict(weights_file(arguments.checkpoint)))
    if arguments.clip:
        state_dict |= text_tower(load_state_dict(weights_file(arguments.clip)))
    save_checkpoint({"state_dict": state_dict, "meta": {"converted_from": arguments.source}}, arguments.out)
    text = f"{len(state_dict)} entries written to {arguments.out}"
    if not any(key.startswith("text_encoder.") for key in state_dict):
        text = f"the file has no text tower: add one with --clip, or strict loading rejects the result\n{text}"
    write_answer(text, {"out": arguments.out, "entries": len(state_dict)}, arguments.json)
    return 0
