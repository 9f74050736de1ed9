"""The config of `openvocab train --data`: what the options state, checked against each other."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from openvocab.commands.parser import offer

if TYPE_CHECKING:
    from mmengine.config import Config

HEADS = ("lseg", "vild")
DATA_HELP = "a data file (my.yaml, data.yaml), a file of COCO, CVAT or Label Studio, or a folder"
MODEL_HELP = (
    "published CLIP to start from (openvocab models); default: OpenAI's ViT-B/16 for lseg; for vild an ImageNet tower, "
    "and the texts of OpenAI's ViT-B/32"
)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that train on a user's own data."""
    group = parser.add_argument_group("own data, instead of a config")
    group.add_argument("--data", metavar="DATA", help=DATA_HELP)
    group.add_argument("--head", choices=HEADS, help="lseg: a class per pixel; vild: boxes")
    offer(group.add_argument("--model", metavar="NAME", help=MODEL_HELP), "models")
    group.add_argument("--accept-license", action="store_true", help="of weights that restrict commercial use")
    parser.add_argument("--minutes", type=_minutes, help="end after this time, with the learning rate at its end")


def check_data_options(arguments: argparse.Namespace) -> None:
    """Check that the options state one way to train.

    Raises:
        ValueError: a config and data, neither of them, or options that do nothing.
    """
    if (arguments.config is None) == (arguments.data is None):
        given = "neither" if arguments.data is None else "both"
        raise ValueError(f"expected a config, or --data DATA with --head lseg or --head vild; got {given}")
    if arguments.data is not None and arguments.head is None:
        raise ValueError("--head: expected lseg (a class per pixel) or vild (boxes)")
    if arguments.data is None:
        for name in ("head", "model", "accept_license"):
            if getattr(arguments, name):
                raise ValueError(f"--{name.replace('_', '-')} is for --data; change a config by --cfg-options")


def config_of_data(arguments: argparse.Namespace) -> "Config":
    """Return the config that the options of `--data` state; its `work_dir` is set.

    Raises:
        FileNotFoundError, ValueError: data that cannot be used, an unknown model.
        PermissionError: the license of a model has to be accepted.
    """
    from openvocab.command_line import say
    from openvocab.own_data.class_names import with_names
    from openvocab.own_data.recognition import recognize
    from openvocab.own_data.splitting import with_validation
    from openvocab.own_data.training_config import HEADS, find_tower, set_tower, training_config
    from openvocab.zoo.weights import prepare_weights

    model = None if arguments.model is None else find_tower(arguments.model)
    task = HEADS[arguments.head][1]
    data = with_names(recognize(arguments.data, task))
    data.task(task)
    data, line = with_validation(data, task)
    say(f"{arguments.data}: {data.kind}, {len(data.names or ())} classes" + (f"; {line}" if line else "") + "\n")
    work_dir = Path(arguments.work_dir or Path("work_dirs") / f"{arguments.head}_{data.name}")
    config = training_config(data, arguments.head, work_dir / "parts", arguments.cfg_options)
    if model is not None:
        set_tower(config, arguments.head, model)
        prepare_weights(model, arguments.accept_license)
    config.work_dir = str(work_dir)
    return config


def _minutes(text: str) -> float:
    """Return a number of minutes above 0."""
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"expected more than 0 minutes, got {text}")
    return minutes
