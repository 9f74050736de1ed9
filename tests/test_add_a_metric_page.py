"""docs/add_a_metric.md is a program: its metric counts, and its config is read."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY

from openvocab.config.config import read_config
from openvocab.metrics.base import units_of
from openvocab.registry import METRICS
from openvocab.structures import Sample, SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary

PAGE = (REPOSITORY / "docs" / "add_a_metric.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```python\n# file: (\S+)\n(.*?)```", PAGE, re.DOTALL))
VOCABULARY = Vocabulary.from_names(["wall", "floor", "door"])


@pytest.fixture
def evaluators(tmp_path: Path, monkeypatch) -> list[dict]:
    """The evaluators of the page's config, whose modules are forgotten afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    yield read_config("my_evaluation.py").val_evaluator
    METRICS.module_dict.pop("PresentClasses", None)
    sys.modules.pop("present_classes", None)


def test_the_metric_of_the_page_counts_classes(evaluators):
    metric = METRICS.build(evaluators[1])
    labels = np.full((10, 10), 255)
    labels[:3], labels[5:], labels[4, :5] = 0, 1, 2  # 5 pixels of a door are too few
    sample = Sample("a", VOCABULARY, (10, 10), (10, 10), label_map=torch.from_numpy(labels))
    metric.process({"sample": [sample]}, [SemanticPrediction(np.zeros((10, 10), np.uint8), VOCABULARY)])
    metric.process({"sample": [sample]}, [SemanticPrediction(labels.astype(np.uint8), VOCABULARY)])
    assert metric.evaluate(2) == {"present_recall": 75.0}  # of wall and floor twice, all but one floor
    assert metric.protocol["images"] == 2 and units_of([metric]) == {"present_recall": "%"}
    with pytest.raises(ValueError, match="sample 'a': expected a prediction of"):
        metric.process({"sample": [sample]}, [SemanticPrediction(np.zeros((9, 9), np.uint8), VOCABULARY)])


def test_the_table_of_the_page_names_members(evaluators):
    members = re.findall(r"^\| `(?:self\.)?(\w+)", PAGE, re.MULTILINE)
    metric = METRICS.build(evaluators[1])
    assert len(members) == 7 and all(hasattr(metric, member) for member in members)


def test_the_example_passes_the_lint_of_this_package():
    home = str(REPOSITORY / "openvocab" / "metrics" / "present_classes.py")
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, "--no-cache", "--stdin-filename", home, "-"]
        ended = subprocess.run(
            command, input=FILES["present_classes.py"], cwd=REPOSITORY, text=True, capture_output=True, timeout=60
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
