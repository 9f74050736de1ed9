"""Classification by the tools: a user's folder by three arguments, and a classifier trained on CIFAR's own files."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from tool_runs import REPOSITORY, run_tool

CONFIGS = REPOSITORY / "configs"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def here(part: str) -> list[str]:
    """Options that keep a loader in this process."""
    return [f"{part}_dataloader.num_workers=0", f"{part}_dataloader.persistent_workers=False"]


def test_a_users_folder_takes_three_arguments(tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("red circle", "blue star"):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for index in range(2):
            cv2.imwrite(str(folder / f"{index}.png"), random.integers(0, 256, (50, 70, 3), dtype=np.uint8))
    (tmp_path / "names.txt").write_text("red circle\nblue star; azure star\n")
    three = [
        f"test_dataloader.dataset.images={tmp_path / 'pictures'}",
        f"test_dataloader.dataset.classes={tmp_path / 'names.txt'}",
        "model.text_encoder.templates=imagenet7",
    ]
    tiny = [
        f"model.{part}.{key}"
        for part in ("backbone", "text_encoder")
        for key in ("model=ViT-Ti-8-shapes", "pretrained=None")
    ]
    arguments = (CONFIGS / "clip_zeroshot_folder.py", "--work-dir", tmp_path / "run", "--out", tmp_path / "m.json")
    assert run_tool("test", *arguments, "--cfg-options", *three, *tiny, *here("test")) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert 0 <= metrics["top1"] <= 100 and metrics["top5"] == 100
    assert metrics["protocol"]["images"] == 4 and len(metrics["protocol"]["templates"]) == 7


def write_cifar(root: Path) -> None:
    """Write CIFAR-10's files with four images each."""
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        content = {
            b"data": random.integers(0, 256, (4, 3072), dtype=np.uint8),
            b"labels": random.integers(0, 10, 4).tolist(),
        }
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    names = {b"label_names": [name.encode() for name in NAMES]}
    (root / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))


@pytest.mark.parametrize("name", ["vit_cifar10", "vit_cifar10_scratch"])
def test_a_classifier_trains_on_cifar_and_is_tested(tmp_path: Path, name: str):
    write_cifar(tmp_path)
    data = [
        option
        for part in ("train", "val", "test")
        for option in (
            f"{part}_dataloader.dataset.path={tmp_path}",
            f"{part}_dataloader.dataset.verify=False",
            f"{part}_dataloader.batch_size=4",
            *here(part),
        )
    ]
    short = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
    if name == "vit_cifar10":  # the rate of the other is constant
        short += ["param_scheduler.1.end=2", "param_scheduler.1.begin=0"]
    tiny = ["model.backbone.model=vit_tiny_patch16_224", "model.backbone.pretrained=None"]
    options = ("--cfg-options", *data, *short, *tiny)
    config = CONFIGS / f"{name}.py"
    assert run_tool("train", config, "--work-dir", tmp_path / "run", *options) == 0
    arguments = (config, tmp_path / "run" / "best.pth", "--work-dir", tmp_path / "run", "--out", tmp_path / "m.json")
    assert run_tool("test", *arguments, *options) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert 0 <= metrics["top1"] <= metrics["top5"] <= 100
    assert metrics["protocol"]["classes"] == 10 and metrics["protocol"]["images"] == 4


def test_retrieval_is_measured_on_karpathys_files(tmp_path: Path, capsys):
    random = np.random.default_rng(0)
    (tmp_path / "val2014").mkdir()
    entries = []
    for index in range(4):
        cv2.imwrite(str(tmp_path / "val2014" / f"{index}.jpg"), random.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        captions = ["A red circle.", *(f"caption {number} of image {index}" for number in range(5))]
        sentences = [{"raw": caption} for caption in captions]
        split = "val" if index == 3 else "test"
        entries.append({"filepath": "val2014", "filename": f"{index}.jpg", "sentences": sentences, "split": split})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    options = [
        f"test_dataloader.dataset.root={tmp_path}",
        "test_dataloader.dataset.pipeline.1.size=(32, 32)",
        *(f"model.{part}.model=ViT-Ti-8-shapes" for part in ("backbone", "text_encoder")),
        *(f"model.{part}.pretrained=None" for part in ("backbone", "text_encoder")),
    ]
    arguments = (CONFIGS / "clip_retrieval_coco.py", "--work-dir", tmp_path / "run", "--out", tmp_path / "m.json")
    assert run_tool("test", *arguments, "--cfg-options", *options, *here("test")) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    protocol = metrics["protocol"]
    assert (protocol["images"], protocol["texts"], protocol["templates"]) == (3, 15, ["a photo of {}"])
    assert metrics["text_to_image_R@5"] == 100 and protocol["units"]["image_to_text_R@1"] == "%"
    assert f"image_to_text_R@10: {metrics['image_to_text_R@10']:.2f} %" in capsys.readouterr().out
