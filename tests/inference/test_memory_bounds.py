"""How much memory a prediction takes, measured in separate processes."""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config

from openvocab import load
from openvocab.config.config import read_config

MB = 1 << 20


def build(name, window=None, stride=None):
    torch.manual_seed(0)
    model = without_weights(read_config(REPOSITORY / "configs" / f"{name}.py").model.to_dict())
    if window:
        model["inference"] = dict(type="SlidingWindow", window=window, stride=stride or window)
    return load(Config(dict(model=model)), device="cpu")


def photo(height, width):
    """A photo with some content, made without further memory."""
    image = np.empty((height, width, 3), np.uint8)
    x = np.arange(width)
    for y, row in enumerate(image):
        for channel, (rows, columns) in enumerate(((40, 90), (300, 70), (110, 500))):
            row[:, channel] = (y // rows * 37 + 11 * channel) % 128 + x // columns * 53 % 128
    return image


def peak():
    # not ru_maxrss, which a process inherits from the one that started it
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def measure(settings):
    """Predict one photo and report, in a process of its own."""
    torch.set_num_threads(settings["threads"])
    predictor = build(settings["name"], settings.get("window"), settings.get("stride"))
    names = [f"name {number}" for number in range(settings["classes"])]
    predictor(photo(64, 64), names)
    image = photo(*settings["size"])
    before = peak()
    if settings.get("limit_mb") is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        bound = used + settings["limit_mb"] * MB
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    try:
        label_map = predictor(image, names).label_map
    except MemoryError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {
        "labels": [int(label) for label in np.bincount(label_map.ravel(), minlength=settings["classes"]).nonzero()[0]],
        "checksum": int(label_map[::7, ::5].astype(np.int64).cumsum().sum() % (1 << 40)),
        "mb": (peak() - before) / MB,
        "total_mb": peak() / MB,
        "learnt": predictor.model._memory_limits(),
    }


def apart(*runs):
    """Measure each of the settings in a separate process."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    done = subprocess.run(
        [sys.executable, __file__, json.dumps([{"name": "lseg_shapes", "threads": 1, **run} for run in runs])],
        env={**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and lines, done.stderr[-3000:]
    return json.loads(lines[-1].removeprefix("RESULT "))


RUNS = {
    "free": dict(classes=600, size=(256, 512)),
    "limited": dict(classes=600, size=(256, 512), limit_mb=120),
    "tight": dict(classes=3, size=(1024, 2048), limit_mb=20),
    "many names": dict(classes=2000, size=(384, 768)),
    "short": dict(classes=100, size=(512, 1024), window=128),
    "long": dict(classes=100, size=(2048, 1024), window=128),
}


@pytest.fixture(scope="module")
def measured():
    """What each of `RUNS` reports."""
    return dict(zip(RUNS, apart(*RUNS.values())))


def test_a_real_limit_changes_no_label(measured):
    """The logits of 600 names take 79 MB, several times at once, of which there are 120."""
    free, limited = measured["free"], measured["limited"]
    assert not free["learnt"] and free["mb"] > 150
    assert limited["learnt"] and limited["mb"] < 130
    assert (limited["checksum"], limited["labels"]) == (free["checksum"], free["labels"]) and len(free["labels"]) > 1


def test_a_limit_below_the_network_itself_is_one_line(measured):
    (line,) = measured["tight"].values()
    assert line.startswith("NotEnoughMemory: memory does not suffice for an image of 1024x2048 pixels")
    assert "model.inference.type=SlidingWindow" in line


def test_memory_does_not_grow_with_the_product_of_names_and_pixels(measured):
    """2000 names over 384 x 768 pixels: 590 MB of logits at the head's resolution, 2.4 GB at full."""
    assert measured["many names"]["mb"] < 580


def test_windows_take_no_more_memory_for_a_longer_image(measured):
    """Four times the height would mean 160 MB more of logits, counted once."""
    assert measured["long"]["mb"] < measured["short"]["mb"] + 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lseg_shapes", "dense_clip_shapes"])
def test_five_thousand_names_at_1024x2048_take_less_than_two_and_a_half_gib(name):
    (run,) = apart(dict(name=name, classes=5000, size=(1024, 2048), threads=torch.get_num_threads()))
    assert run["total_mb"] < 2560


@pytest.mark.slow
def test_twenty_thousand_pixels_a_side_take_less_than_three_gib():
    """1.2 GB of them are the image and 0.4 GB the label map."""
    settings = dict(name="dense_clip_shapes", classes=20, window=512, threads=torch.get_num_threads())
    (run,) = apart(dict(size=(20_000, 20_000), **settings))
    assert run["total_mb"] < 3072


def main():
    """Measure each of the settings in a copy of this process, which has done the imports and predicted nothing."""
    runs = json.loads(sys.argv[1])
    build(runs[0]["name"])
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        print("RESULT", json.dumps(pool.map(measure, runs, chunksize=1)))


if __name__ == "__main__":
    main()
