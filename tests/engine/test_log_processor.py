"""Lines of validations and tests show metrics with their units; losses and times stay bare numbers."""

import json
import re

from tiny_run import tiny_config

from openvocab.engine.runner import build_runner
from openvocab.metrics.base import Metric
from openvocab.registry import METRICS


@METRICS.register_module()
class ShareAndCount(Metric):
    """Numbers with and without a unit."""

    def result_keys(self, vocabulary):
        return ["AP50", "box_AP50", "objects"]

    def unit_of(self, key):
        return "" if key == "objects" else "%"

    def process(self, data_batch, data_samples):
        self.results += [None] * len(data_samples)

    def compute_metrics(self, results):
        return {"AP50": 0.3314, "box_AP50": 7.0, "objects": 3.0}


def lines_after(run, capfd):
    run()
    return [line for line in capfd.readouterr().err.splitlines() if "AP50" in line]


def test_validation_and_test_show_units(tmp_path, capfd):
    config = tiny_config(max_iters=6, verbose=True)
    config.val_evaluator = config.test_evaluator = [dict(type="ShareAndCount"), dict(type="TinyMetric")]
    config.test_dataloader, config.test_cfg = config.val_dataloader, dict()
    runner = build_runner(config, work_dir=tmp_path)
    for run, mode in ((runner.train, "val"), (runner.test, "test")):
        (line,) = lines_after(run, capfd)
        assert re.search(rf"\({mode}\) .*  AP50: 0\.33 %  box_AP50: 7\.00 %  objects: 3\.0000  mIoU: -", line)
        assert re.search(r"data_time: \d\.\d{4}  time: \d\.\d{4}$", line) and line.count("%") == 2
    (content,) = (json.loads(path.read_text()) for path in (tmp_path / runner.timestamp).glob("*.json"))
    assert content["AP50"] == 0.3314 and content["units"] == {"AP50": "%", "box_AP50": "%"}
    assert runner.test_protocol()["units"] == content["units"]
