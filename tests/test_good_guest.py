"""Importing or using openvocab leaves a host's process as it was; only our tools set up a process of their own."""

import json
import logging

import pytest
import torch
from fresh_process import run_fresh
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from tiny_run import tiny_config

from openvocab.engine.own_process import own_process
from openvocab.engine.runner import build_runner

SNAPSHOT = """
import gc, locale, logging, multiprocessing, os, random, signal, sys, threading, warnings
import cv2, matplotlib, numpy, torch
import PIL.Image, PIL.ImageFile
import open_clip, timm, transformers, mmcv.transforms, mmengine.runner, mmengine.visualization, faster_coco_eval
from mmengine.logging import MMLogger, MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

RESOURCES = []
try:
    import resource
    RESOURCES = [resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_FSIZE]
except ImportError:
    pass


def snapshot():
    '''All that a process has once and a library could change.'''
    return {
        "search path": list(sys.path),
        "meta path": list(map(repr, sys.meta_path)),
        "path hooks": list(map(repr, sys.path_hooks)),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "argv": list(sys.argv),
        "recursion": sys.getrecursionlimit(),
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.stdout, sys.stderr),
        "warnings": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "signals": {name: signal.getsignal(name) for name in signal.valid_signals()},
        "locale": locale.setlocale(locale.LC_ALL),
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "limits": [resource.getrlimit(kind) for kind in RESOURCES],
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), cv2.getNumThreads(), cv2.useOptimized()),
        "python random": random.getstate(),
        "numpy random": repr(numpy.random.get_state()),
        "numpy errors": numpy.geterr(),
        "numpy printing": numpy.get_printoptions(),
        "torch random": torch.get_rng_state().tolist(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "default dtype": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "mkldnn": torch.backends.mkldnn.enabled,
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "root logger": (logging.root.level, list(logging.root.handlers), logging.root.disabled),
        "logging raises": logging.raiseExceptions,
        "logger class": logging.getLoggerClass(),
        "our logger": (logging.getLogger("openvocab").level, list(logging.getLogger("openvocab").handlers)),
        "their logger": (logging.getLogger("mmengine").level, list(logging.getLogger("mmengine").handlers)),
        "PIL": (PIL.Image.MAX_IMAGE_PIXELS, PIL.ImageFile.LOAD_TRUNCATED_IMAGES),
        "matplotlib": matplotlib.get_backend(),
        "matplotlib settings": dict(matplotlib.rcParams),
        "checkpoint loaders": dict(CheckpointLoader._schemes),
        "mmengine's scope, loggers and hubs": [
            list(kind._instance_dict) for kind in (DefaultScope, MMLogger, MessageHub)
        ],
    }


def differences(before, after):
    return {key: (str(before[key])[:300], str(after[key])[:300]) for key in before if before[key] != after[key]}


class NoSuchCall:
    '''Stands where the allocator of the process would be set: that cannot be read back.'''

    def __init__(self, *names, **options):
        raise AssertionError("the allocator was asked for")
"""

USE_EVERYTHING = """
import ctypes, json, pkgutil, importlib, tempfile
from pathlib import Path

ctypes.CDLL = NoSuchCall
before = snapshot()
import openvocab
for module in pkgutil.walk_packages(openvocab.__path__, "openvocab."):
    importlib.import_module(module.name)
on_import = differences(before, snapshot())

import numpy
from PIL import Image
from openvocab import load
from openvocab.datasets import SegmentationDataset
from openvocab.metrics import MeanIoU
from openvocab.drawing.visualization import draw_label_map

folder = Path(sys.argv[1])
(folder / "host_head.py").write_text('''
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.registry import HEADS


@HEADS.register_module()
class HostHead(DenseCLIPHead):
    pass
''')
(folder / "clip.py").write_text('''
from host_head import HostHead

clip = dict(model="ConvNet-8-shapes")
model = dict(
    type="OpenVocabModel",
    backbone=dict(type="CLIPBackbone", **clip),
    text_encoder=dict(type="CLIPTextEncoder", **clip),
    head=dict(type=HostHead),
    inference=dict(type="SlidingWindow", window=(64, 64), stride=(32, 32)),
)
resize = dict(type="Resize", short_side=64)
test_dataloader = dict(dataset=dict(pipeline=[dict(type="LoadImage"), resize, dict(type="PackSample")]))
''')
generator = numpy.random.default_rng(0)
for part in ("images", "labels"):
    (folder / part).mkdir()
for index in range(2):
    pixels = generator.integers(0, 255, (64, 80, 3), dtype=numpy.uint8)
    Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
    Image.fromarray((pixels[:, :, 0] % 2).astype(numpy.uint8)).save(folder / "labels" / f"{index}.png")

predictor = load(folder / "clip.py")
prediction = predictor(folder / "images" / "0.png", "cat, dog")
draw_label_map(numpy.zeros((64, 80, 3), numpy.uint8), prediction)
dataset = SegmentationDataset(folder / "images", folder / "labels", ["cat", "dog"], test_mode=True)
metric = MeanIoU()
metric.dataset_meta = dataset.metainfo
for item in dataset:
    image = str(folder / "images" / f"{item['sample'].sample_id}.png")
    metric.process({"sample": [item["sample"]]}, [predictor(image, item["sample"].vocabulary)])
scores = metric.evaluate(len(dataset))
print(json.dumps([on_import, differences(before, snapshot()), {key: float(value) for key, value in scores.items()}]))
"""


def test_a_host_that_imports_predicts_and_evaluates_finds_its_process_as_it_was(tmp_path):
    result = run_fresh(SNAPSHOT + USE_EVERYTHING, tmp_path)
    changed_by_import, changed_by_use, scores = json.loads(result.stdout)
    assert changed_by_import == {} and changed_by_use == {}
    assert 0 <= scores["mIoU"] <= 100


def test_the_snapshot_sees_what_a_careless_library_does():
    """The test above can fail."""
    careless = """
before = snapshot()
import json
sys.path.append("/nowhere")
torch.set_float32_matmul_precision("medium")
cv2.setNumThreads(0)
warnings.simplefilter("ignore")
random.seed(1), numpy.random.seed(1), torch.manual_seed(1)
CheckpointLoader.register_scheme("https://", print, force=True)
os.environ["CARELESS"] = "1"
logging.basicConfig()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps(sorted(differences(before, snapshot()))))
"""
    assert json.loads(run_fresh(SNAPSHOT + careless).stdout) == sorted(
        [
            "search path",
            "matmul precision",
            "tf32",
            "threads",
            "warnings",
            "python random",
            "numpy random",
            "torch random",
        ]
        + ["checkpoint loaders", "environment", "root logger", "signals"]
    )


OWN_PROCESS = """
import sys
import torch
from mmengine.runner import CheckpointLoader
from openvocab.config.config import read_config
from openvocab.engine import own_process as home
home.keep_freed_memory = lambda: print("memory")
config = read_config(sys.argv[1])
print(sys.argv[2] in sys.path)
home.own_process(config)
print(sys.argv[2] in sys.path, torch.get_float32_matmul_precision(), CheckpointLoader._schemes[""].__module__)
"""


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_a_process_of_our_own_is_set_up_as_the_config_says(tmp_path, precision):
    (tmp_path / "my.py").write_text(f"precision = {precision!r}\n")
    shown = run_fresh(OWN_PROCESS, tmp_path / "my.py", tmp_path).stdout.splitlines()
    assert shown == ["False", "memory", f"True {precision} openvocab.engine.mmengine_loaders"]


def test_precision_is_probed_where_the_config_says_nothing(caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "openvocab")
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    own_process(Config({}))
    assert "error of medium on cpu" in caplog.text


def test_building_a_runner_leaves_what_only_makes_it_faster_to_the_caller(tmp_path):
    torch.set_float32_matmul_precision("high")
    loaders = dict(CheckpointLoader._schemes)
    build_runner(Config({**tiny_config(), "precision": "medium"}), work_dir=tmp_path)
    assert torch.get_float32_matmul_precision() == "high" and CheckpointLoader._schemes == loaders
