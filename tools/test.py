"""Evaluate a checkpoint on the test data of a config.

python tools/test.py configs/lseg_shapes.py work_dirs/lseg_shapes/best.pth --out metrics.json --show-dir pictures
"""

from openvocab.commands.main import run_tool

if __name__ == "__main__":
    run_tool("test", __doc__)
