"""Find the classes you name in photos: segments or boxes, whichever the model predicts.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
Thousands of names, one a line:
python tools/demo.py photo.jpg --classes names.txt --config configs/vild_shapes.py \
    --checkpoint work_dirs/vild_shapes/best.pth --min-score 0.5
The groups that GroupViT forms, without any names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
A folder of photos:
python tools/demo.py photos --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out pictures

A photo that cannot be read or predicted costs itself alone and is listed at the end. Exit code: 0, or 1 if there was
such a photo, or 2 if the command itself cannot be carried out.
"""

import openvocab.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from openvocab.command_line import one_line_errors
from openvocab.datasets.image_io import read_image
from openvocab.drawing.box_drawing import (
    MASK_ALPHA,
    MAX_OBJECTS,
    MIN_SCORE,
    best_objects,
    describe_objects,
    draw_detections,
)
from openvocab.drawing.group_overlays import draw_groups, find_groups
from openvocab.drawing.picture_files import write_picture
from openvocab.drawing.visualization import MAP_ALPHA, describe_areas, draw_label_map
from openvocab.inference.predictor import Predictor, as_vocabulary, load
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.text.vocabulary import Vocabulary, read_class_names

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LISTS = {".txt", ".json", ".csv", ".tsv", ".yaml", ".yml", ".names", ".md", ".xml"}
"""How files of names end, so that one that is misspelt is not taken for a name."""
Show = Callable[[Path], tuple[np.ndarray, str]]
"""Returns the picture of a photo and what it shows, in words."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="photos, or folders of them")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='"cat, sofa | couch, other" (| separates synonyms), or a .txt file of names')
    parser.add_argument("--config", help="config file of the model; default: the one in the checkpoint")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument("--out", help="the picture (default: overlay.png); for several photos a folder (overlays)")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA where there is one")
    parser.add_argument("--alpha", type=float, help="opacity of the colours, 0..1")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help="leave out objects below it, 0..1")
    arguments = parser.parse_args()
    for name in ("alpha", "min_score"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            parser.error(f"--{name.replace('_', '-')}: expected 0..1, got {value:g}")
    if arguments.show == "classes" and arguments.classes is None:
        parser.error("--classes is required to show classes")
    return arguments


def main() -> None:
    """Draw an overlay of each photo."""
    arguments = parse_arguments()
    with one_line_errors():
        photos = list(find_photos(arguments.images))
        outs = picture_files(photos, arguments.out)
        vocabulary = read_vocabulary(arguments.classes) if arguments.show == "classes" else None
        predictor = load(arguments.config, arguments.checkpoint, arguments.device)
        if vocabulary is None:
            show: Show = partial(show_groups, predictor, alpha=arguments.alpha)
        else:
            show = partial(show_classes, predictor, vocabulary, alpha=arguments.alpha, min_score=arguments.min_score)
        failed = draw_all(show, photos, outs)
    if failed:
        if len(photos) > 1:
            listed = "".join(f"\n  {photo}" for photo in failed)
            print(f"{len(failed)} of {len(photos)} photos were left out:{listed}", file=sys.stderr)
        sys.exit(1)


def draw_all(show: Show, photos: list[Path], outs: list[Path]) -> list[Path]:
    """Draw photos and say what they show, with the time that is left; return those that could not be shown."""
    failed, start = [], time.monotonic()
    for done, (photo, out) in enumerate(zip(photos, outs), start=1):
        try:
            picture, words = show(photo)
        except (OSError, ValueError, MemoryError) as error:
            failed.append(photo)
            reason = " ".join(str(error).removeprefix(f"{photo}: ").split())
            print(f"error: {photo}: {reason or type(error).__name__}", file=sys.stderr, flush=True)
            continue
        write_picture(picture, out)
        left = (time.monotonic() - start) / done * (len(photos) - done)
        progress = f" ({done} of {len(photos)}, {timedelta(seconds=round(left))} left)" if len(photos) > 1 else ""
        print(f"{photo}: {words}\npicture: {out}{progress}", flush=True)
    return failed


def picture_files(photos: list[Path], out: str | None) -> list[Path]:
    """Return where the picture of each photo goes: one file, or files of their names in a folder.

    Raises:
        ValueError: two photos of one name, a photo that would be overwritten, or an extension that is no picture's.
    """
    if len(photos) == 1:
        outs = [Path(out or "overlay.png")]
        if outs[0].suffix.lower() not in Image.registered_extensions():
            raise ValueError(f"--out: {outs[0].suffix or 'no extension'!r} is unknown as a picture; use .png or .jpg")
    else:
        stems = [photo.stem for photo in photos]
        names = [stem if stems.count(stem) == 1 else photo.name for stem, photo in zip(stems, photos)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} photos are called {name!r}; draw them by commands of their own")
        outs = [Path(out or "overlays") / f"{name}.png" for name in names]
    given = {photo.resolve() for photo in photos}
    for path in outs:
        if path.resolve() in given:
            raise ValueError(f"{path} is one of the photos and would be overwritten; choose another --out")
    return outs


def read_vocabulary(classes: str) -> Vocabulary:
    """Read what the user gave as `--classes`: names, or a .txt file of them.

    Raises:
        ValueError: another kind of file.
        FileNotFoundError: what looks like a file and is none.
    """
    path = Path(classes)
    is_file = "," not in classes and len(classes) < 256 and path.is_file()
    if path.suffix.lower() == ".txt" and (is_file or "," not in classes):
        return as_vocabulary(read_class_names(path))
    if is_file:
        raise ValueError(f"--classes: {classes} is a file; names are read from .txt files, one class a line")
    if path.suffix.lower() in LISTS and "," not in classes:
        raise FileNotFoundError(f"--classes: {classes} looks like a file, and there is none")
    return as_vocabulary(classes)


def find_photos(paths: list[str]) -> Iterator[Path]:
    """Yield the photos among `paths`, those in folders by name, without hidden ones.

    Raises:
        FileNotFoundError: a path that does not exist, or a folder without photos.
    """
    for path in map(Path, paths):
        if path.is_dir():
            photos = sorted(
                file
                for file in path.iterdir()
                if file.suffix.lower() in EXTENSIONS and not file.name.startswith(".") and not file.is_dir()
            )
            if not photos:
                raise FileNotFoundError(f"no photos in {path}; they end in {', '.join(sorted(EXTENSIONS))}")
            yield from photos
        elif path.exists() or path.is_symlink():  # a link that leads nowhere is a photo that cannot be read
            yield path
        elif "://" in str(path) or ":/" in str(path):
            raise FileNotFoundError(f"{path}: addresses are not fetched; download the file and give its path")
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")


def show_classes(
    predictor: Predictor, vocabulary: Vocabulary, photo: Path, alpha: float | None, min_score: float
) -> tuple[np.ndarray, str]:
    """Draw where the classes are in a photo, and say which there are."""
    image = read_image(photo)
    prediction = predictor(photo, vocabulary)
    if isinstance(prediction, SemanticPrediction):
        picture = draw_label_map(image, prediction, alpha=MAP_ALPHA if alpha is None else alpha)
        return picture, describe_areas(prediction)
    if isinstance(prediction, DetectionPrediction):
        objects = best_objects(prediction, min_score, MAX_OBJECTS)
        picture = draw_detections(image, objects, min_score=min_score, alpha=MASK_ALPHA if alpha is None else alpha)
        return picture, describe_objects(objects) or f"nothing with a score of {min_score:g} or more"
    raise TypeError(f"the demo draws label maps and boxes; this model gives a {type(prediction).__name__}")


def show_groups(predictor: Predictor, photo: Path, alpha: float | None) -> tuple[np.ndarray, str]:
    """Draw the groups of a photo, and say how many there are."""
    group_maps = find_groups(predictor, photo)
    picture = draw_groups(read_image(photo), group_maps, alpha=MAP_ALPHA if alpha is None else alpha)
    return picture, ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1))


if __name__ == "__main__":
    main()
