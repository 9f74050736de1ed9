"""Convert an official checkpoint to ours.

python tools/convert_checkpoint.py lseg demo_e200.ckpt lseg_ade.pth
python tools/test.py configs/lseg_ade.py lseg_ade.pth

python tools/convert_checkpoint.py groupvit hf-hub:nvidia/groupvit-gcc-yfcc groupvit.pth
python tools/test.py configs/groupvit_voc.py groupvit.pth --cfg-options model.head.multi_label.num_prompts=0

python tools/convert_checkpoint.py vild vild.safetensors vild.pth --clip ViT-B-32.pt
"""

import argparse
import sys

from openvocab.checkpoint.checkpoint import load_state_dict, save_checkpoint
from openvocab.checkpoint.weights_file import weights_file
from openvocab.command_line import one_line_errors
from openvocab.converters import CONVERTERS
from openvocab.converters.clip_text import text_tower


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=sorted(CONVERTERS), help="origin of the checkpoint")
    parser.add_argument(
        "checkpoint",
        help="the official file, a Hugging Face folder or hf-hub:OWNER/NAME; no code in it is run",
    )
    parser.add_argument("out", help="file to write")
    parser.add_argument("--clip", help="a CLIP whose text tower is added, for official files without one (vild)")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    with one_line_errors():
        state_dict = CONVERTERS[arguments.source](load_state_dict(weights_file(arguments.checkpoint)))
        if arguments.clip:
            state_dict |= text_tower(load_state_dict(weights_file(arguments.clip)))
        save_checkpoint({"state_dict": state_dict, "meta": {"converted_from": arguments.source}}, arguments.out)
        if not any(key.startswith("text_encoder.") for key in state_dict):
            sys.stdout.write("the file has no text tower: add one with --clip, or strict loading rejects the result\n")
        sys.stdout.write(f"{len(state_dict)} entries written to {arguments.out}\n")


if __name__ == "__main__":
    main()
