"""Pack captioned images into tar shards (WebDataset) for training at scale.

Command: python tools/make_shards.py captions_train.jsonl --root data/shapes --out data/shapes_shards
The captions are JSON lines, a CSV or TSV table, or Karpathy's JSON. The same command continues an interrupted run.
Train on the shards with `dict(type=WebCaptionDataset, shards="data/shapes_shards/*.tar")`.
"""

import argparse
from pathlib import Path

from openvocab.command_line import one_line_errors
from openvocab.datasets.files.caption_files import read_records
from openvocab.datasets.shards.shard_writing import write_shards
from openvocab.progress import Progress

MAX_LISTED = 20


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", help="caption file, relative to --root")
    parser.add_argument("--root", default=".", type=Path, help="folder of the caption file and the images")
    parser.add_argument("--out", required=True, type=Path, help="folder of the shards; created if it does not exist")
    parser.add_argument("--samples-per-shard", default=1000, type=int, help="default: %(default)s")
    parser.add_argument("--prefix", default="shard", help="of the file names (default: %(default)s)")
    parser.add_argument("--columns", nargs=2, default=("image", "caption"), metavar=("IMAGE", "CAPTION"),
                        help="of a table (default: image caption)")  # fmt: skip
    parser.add_argument("--split", nargs="+", help="parts of Karpathy's JSON, such as: train restval")
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    args = parse_args()
    with one_line_errors():
        records = read_records(args.root / args.annotations, columns=tuple(args.columns), split=args.split)
        written = write_shards(
            records,
            args.root,
            args.out,
            samples_per_shard=args.samples_per_shard,
            prefix=args.prefix,
            progress=Progress(),
        )
        reused = f" ({written.num_kept} existed already)" if written.num_kept else ""
        print(f"{written.num_shards} shards in {args.out}{reused}")
        if written.bad:
            print(f"{len(written.bad)} images were skipped:", *written.bad[:MAX_LISTED], sep="\n  ")


if __name__ == "__main__":
    main()
