"""A training run on tar shards: it resumes with the next samples and reports what it skipped."""

import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine.runner import build_runner
from openvocab.registry import MODELS

pytest.importorskip("webdataset")


@MODELS.register_module()
class MeanColor(BaseModel):
    """One weight; writes down what it is trained on."""

    def __init__(self, log: str):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.log = Path(log)

    def forward(self, image, sample, position, mode="loss"):
        with open(self.log, "a") as file:
            file.write(" ".join(item.sample_id for item in sample) + "\n")
        return {"loss": (self.weight - torch.stack(image).float().mean()).square()}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for shard in range(4):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number in range(5):
                image = cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()
                content = b"cut" if (shard, number) == (2, 3) else image
                for field, data in (("png", content), ("json", json.dumps({"captions": ["a"]}).encode())):
                    header = tarfile.TarInfo(f"{number}.{field}")
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
    return tmp_path


def config(folder: Path, log: str, workers: int, max_iters: int) -> Config:
    dataset = dict(type="WebCaptionDataset", shards=f"{folder}/*.tar", shuffle_buffer=4)
    dataset["pipeline"] = [dict(type="LoadImage"), dict(type="PackSample")]
    return Config(
        dict(
            model=dict(type="MeanColor", log=str(folder / log)),
            train_dataloader=dict(
                dataset=dataset,
                sampler=None,
                batch_size=3,
                num_workers=workers,
                persistent_workers=workers > 0,
            ),
            train_cfg=dict(type="TrainLoop", max_iters=max_iters),
            optim_wrapper=dict(type="SafeOptimWrapper", optimizer=dict(type="SGD", lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(type="CheckpointHook", interval=3, best=None),
                bad_samples=dict(type="BadSampleHook"),
                logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=False),
            ),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=5),
        )
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_on_shards_resumes_with_the_next_samples(shards: Path, workers: int):
    build_runner(config(shards, "whole.txt", workers, 9), work_dir=shards / "whole").train()
    build_runner(config(shards, "parts.txt", workers, 3), work_dir=shards / "parts").train()
    build_runner(config(shards, "parts.txt", workers, 9), work_dir=shards / "parts", resume=True).train()
    assert (shards / "whole.txt").read_text() == (shards / "parts.txt").read_text()
    logs = "".join(path.read_text() for path in (shards / "parts").rglob("*.log"))
    assert "bad samples were replaced or skipped:" in logs and "2.tar/3.png: not an image" in logs
    whole, parts = (load_checkpoint(shards / name / "last.pth")["loop"] for name in ("whole", "parts"))
    assert whole == parts and set(whole["stream"]) == set(range(max(1, workers)))


def test_the_seed_of_the_run_orders_the_stream(shards: Path):
    for seed in (1, 2):
        build_runner(config(shards, f"{seed}.txt", 0, 6), work_dir=shards / str(seed), seed=seed).train()
    assert (shards / "1.txt").read_text() != (shards / "2.txt").read_text()
