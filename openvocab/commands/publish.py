"""Turn a checkpoint of a training run into a folder for others: weights, config and a model card.

openvocab publish work_dirs/lseg_shapes/best.pth --out lseg-shapes --license apache-2.0
openvocab publish best.pth --out lseg-shapes --metrics metrics.json --push OWNER/lseg-shapes

The folder holds model.safetensors (the weights without the optimizer, and the config of the model as data) and
README.md, with task, classes, scores and their protocol. `openvocab.load(FOLDER)` reads it, or the file alone, on any
machine; after --push, `openvocab.load("hf-hub:OWNER/NAME")` does. --json prints the folder and its files.
"""

import argparse
from pathlib import Path

from openvocab.commands.answers import write_answer
from openvocab.commands.parser import offer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("checkpoint", type=Path, help="a checkpoint of our training, such as best.pth")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to create")
    parser.add_argument("--name", help="name of the model in its card; default: that of the folder")
    parser.add_argument(
        "--license", help="license of the weights, as the hub names it: mit, apache-2.0, cc-by-4.0, ..."
    )
    parser.add_argument("--metrics", type=Path, nargs="+", default=(), metavar="FILE",
                        help="result files of `openvocab test --out` for the card; default: the one next to the "
                             "checkpoint that is newer than it, if there is exactly one")  # fmt: skip
    config = parser.add_argument("--config", help="config of the model, for a checkpoint without one")
    offer(config, "configs")
    parser.add_argument(
        "--push", metavar="OWNER/NAME", help="upload the folder to this repository on Hugging Face's hub"
    )
    parser.add_argument("--private", action="store_true", help="create that repository as a private one")


def run(arguments: argparse.Namespace) -> int:
    """Publish."""
    from openvocab.publishing.folder import publish
    from openvocab.publishing.upload import check_repository, upload

    if arguments.push is not None:
        check_repository(arguments.push)
    out = arguments.out
    publish(
        arguments.checkpoint,
        out,
        config=arguments.config,
        metrics=arguments.metrics,
        name=arguments.name,
        license=arguments.license,
        repository=arguments.push,
    )
    files = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    text = "\n".join(f"{out / name}  {size / 1e6:.1f} MB" for name, size in files.items())
    address = None
    if arguments.push is not None:
        address = upload(out, arguments.push, arguments.private)
        text += f"\nuploaded to {address}"
    write_answer(text, {"folder": out, "files": files, "address": address}, arguments.json)
    return 0
