"""tools/test.py measures the same with any number of processes."""

import json
import os
import sys

from bounded_processes import run_bounded
from config_parts import REPOSITORY
from tool_runs import LSEG_SHAPES, tiny_lseg_options, write_tiny_shapes

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.registry import MODELS


def test_one_two_and_three_ranks_give_equal_numbers(tmp_path):
    options = tiny_lseg_options(write_tiny_shapes(tmp_path / "shapes"))  # 4 images: not divisible by 3
    overrides = {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None}
    model = MODELS.build(read_config(LSEG_SHAPES, overrides).model)
    save_checkpoint({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    tool = [str(REPOSITORY / "tools" / "test.py"), LSEG_SHAPES, str(tmp_path / "model.pth"), "--launcher", "pytorch"]
    runs = [
        {"world_size": count,
         "tool": [*tool, "--work-dir", str(tmp_path / str(count)), "--out", str(tmp_path / f"{count}.json"), *options]}
        for count in (1, 2, 3)
    ]  # fmt: skip
    command = [sys.executable, str(REPOSITORY / "tests" / "forked_ranks.py"), json.dumps(runs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = run_bounded(command, env=environment, stderr=-2)
    assert result.returncode == 0, result.stdout[-3000:]
    one, two, three = (json.loads((tmp_path / f"{count}.json").read_text()) for count in (1, 2, 3))
    assert one == two == three and one["protocol"]["images"] == 4
