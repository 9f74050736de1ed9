"""Draw the Shapes dataset: labeled scenes of colored shapes in the formats of real datasets.

openvocab shapes [--root data/shapes] [--seed 0]

The default set (13,000 pictures of 64 px) takes under 20 seconds on two cores. A folder that already holds the same set
is kept, and gets the grounding files (captions whose phrases have boxes) if an earlier version wrote it. --json prints
the folder, and whether anything was written now.
"""

import argparse
from pathlib import Path

from openvocab.commands.answers import write_answer

IS_LIGHT = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--root", default="data/shapes", type=Path, help="folder to create (default: %(default)s)")
    parser.add_argument("--seed", default=0, type=int, help="of all random choices (default: %(default)s)")
    parser.add_argument("--num-train", default=12_000, type=int, help="training scenes (default: %(default)s)")
    parser.add_argument("--num-val", default=500, type=int, help="validation scenes (default: %(default)s)")
    parser.add_argument(
        "--objects-per-class", default=10, type=int, help="single-object pictures per class (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, help="workers, which do not change the result (default: one per core)")


def run(arguments: argparse.Namespace) -> int:
    """Draw."""
    from openvocab.datasets.shapes.writing import write_shapes
    from openvocab.progress import Progress

    root = arguments.root
    has_written = write_shapes(
        root=root,
        seed=arguments.seed,
        num_train=arguments.num_train,
        num_val=arguments.num_val,
        objects_per_class=arguments.objects_per_class,
        processes=arguments.processes,
        progress=Progress(),
    )
    text = f"{root} is complete" if has_written else f"{root} holds this dataset already"
    write_answer(text, {"root": root, "written": has_written}, arguments.json)
    return 0
