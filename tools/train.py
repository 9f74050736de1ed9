"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp {auto,bf16,off}]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch

On SIGTERM or Ctrl-C, training saves before the next step and ends with exit code 143 or 130; a second signal ends it at
once.
"""

from openvocab.commands.main import run_tool

if __name__ == "__main__":
    run_tool("train", __doc__)
