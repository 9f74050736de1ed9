"""Hundreds of predictions in one process: memory and open files stay where they are."""

import gc
import os
from pathlib import Path

import numpy as np
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config

from openvocab import load
from openvocab.config.config import read_config

MB = 1 << 20


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB


def open_files():
    gc.collect()  # what earlier tests of this process have left
    return len(os.listdir("/proc/self/fd"))


def test_predictions_of_many_sizes_and_vocabularies_leave_nothing_behind(tmp_path):
    torch.manual_seed(0)
    model = without_weights(read_config(REPOSITORY / "configs" / "lseg_shapes.py").model.to_dict())
    predictor = load(Config(dict(model=model)), device="cpu")
    predictor.model.text_encoder.cache.max_rows = 1000  # so that it fills up before the measurement
    random = np.random.default_rng(0)

    def predict(number):
        size = (*random.integers(16, 96, 2), 3)
        names = [f"thing {number} {index}" for index in range(1 + number % 40)]
        image = random.integers(0, 256, size, dtype=np.uint8)
        assert predictor(image, names).label_map.shape == size[:2]

    for number in range(200):  # caches of a fixed size fill up
        predict(number)
    files, memory = open_files(), [resident()]
    for hundred in range(2, 5):
        for number in range(100):
            predict(100 * hundred + number)
        memory.append(resident())
    slope = np.polyfit(range(len(memory)), memory, 1)[0]
    assert slope < 4, f"{slope:.1f} MB per 100 predictions: {memory}"
    assert open_files() <= files
