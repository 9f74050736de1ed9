"""Count the files of the package that one image passes through: those that a reader has to open to follow it.

python tools/trace_files.py [CONFIG ...] [--list]

Per config (default: LSeg, ViLD and GroupViT on Shapes, with random weights), it counts the files of a prediction whose
class names are cached, of one with new class names, and of a photo from the disk through the network to the metric.
Files whose code runs only while parts are built are not counted.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = str(REPOSITORY / "openvocab")


def files_crossed(work: Callable[[], Any]) -> dict[str, set[str]]:
    """Run `work`, and return {file of the package: its functions that ran}."""
    crossed: dict[str, set[str]] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            crossed.setdefault(code.co_filename[len(PACKAGE) + 1 :], set()).add(code.co_name)

    previous = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(previous)
    return crossed


def trace(config_path: str) -> dict[str, dict[str, set[str]]]:
    """Return, for each task of a config, the files that it passes through, and their functions.

    Args:
        config_path: a config on Shapes, whose dataset is drawn into a temporary folder.
    """
    import torch

    import openvocab
    from openvocab.config import read_config
    from openvocab.datasets.shapes.writing import write_shapes
    from openvocab.registry import DATASETS, METRICS

    config = read_config(config_path)
    config.model = without_weights(config.model.to_dict())
    predictor = openvocab.load(config)
    with tempfile.TemporaryDirectory() as folder:
        write_shapes(folder, num_train=1, num_val=2)
        config.test_dataloader.dataset.update(root=folder)
        dataset = DATASETS.build(config.test_dataloader.dataset)
        metric = METRICS.build(config.test_evaluator)
        metric.dataset_meta = dataset.metainfo
        photo = str(next(Path(folder).glob("images/val/*.jpg")))
        words = ["red circle", "blue star", "anything else"]

        def measure() -> None:
            item = dataset[0]
            batch = {"image": [item["image"]], "sample": [item["sample"]]}
            with torch.inference_mode():
                metric.process(batch, predictor.model.test_step(batch))
            metric.evaluate(1)

        predictor(photo, words)
        measure()  # now the text embeddings are cached, and all modules imported
        return {
            "prediction, warm": files_crossed(lambda: predictor(photo, words)),
            "prediction, new words": files_crossed(lambda: predictor(photo, ["green ring", "sky"])),
            "disk to metric, warm": files_crossed(measure),
        }


def without_weights(part: Any) -> Any:
    """Return a part of a config with random weights: every `pretrained` is None."""
    if isinstance(part, dict):
        return {key: None if key == "pretrained" else without_weights(value) for key, value in part.items()}
    return type(part)(map(without_weights, part)) if isinstance(part, (list, tuple)) else part


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("lseg_shapes", "vild_text_shapes", "groupvit_shapes")
    configs = [str(REPOSITORY / "configs" / f"{name}.py") for name in names]
    parser.add_argument("configs", nargs="*", default=configs, help="default: LSeg, ViLD and GroupViT on Shapes")
    parser.add_argument("--list", action="store_true", help="name the files, and how many of their functions ran")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    for path in arguments.configs:
        for task, crossed in trace(path).items():
            print(f"{Path(path).stem}, {task}: {len(crossed)} files, {sum(map(len, crossed.values()))} functions")
            if arguments.list:
                print(*(f"  {file} ({len(functions)})" for file, functions in sorted(crossed.items())), sep="\n")


if __name__ == "__main__":
    main()
