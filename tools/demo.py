"""Find the classes you name in photos: segments or boxes, whichever the model predicts.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
Thousands of names, one a line:
python tools/demo.py photo.jpg --classes names.txt --config configs/vild_shapes.py \
    --checkpoint work_dirs/vild_shapes/best.pth --min-score 0.5
Without training, by the weights that the config starts from (docs/training_free.md):
python tools/demo.py photo.jpg --classes "cat, sofa, floor" --config configs/dense_clip_ade.py
Where a model finds the background by a threshold, the name for it:
python tools/demo.py photo.jpg --classes "red circle, blue star, other" --background other \
    --config configs/groupvit_shapes.py --checkpoint work_dirs/groupvit_shapes/best.pth
The groups that GroupViT forms, without any names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
A folder of photos, searched recursively; the pictures lie in the same folders below --out:
python tools/demo.py photos --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out pictures

A photo that cannot be read or predicted, or whose picture would have too long a name, costs itself alone and is listed
at the end. Exit code: 0, or 1 if there was such a photo, or 2 if the command itself cannot be carried out.
"""

import openvocab.process.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import errno
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from openvocab.command_line import one_line_errors
from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, list_images
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
from openvocab.engine.allocator import keep_freed_memory
from openvocab.files.printable_text import encodable, printable
from openvocab.images.image_io import read_image
from openvocab.predictor import Predictor, as_vocabulary, load
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.vocabulary.vocabulary import FILE_ENDINGS, Vocabulary, read_class_names

DEFAULT_FOLDER = "overlays"
"""Of the pictures of several photos."""
Show = Callable[[Path], tuple[np.ndarray, str]]
"""Returns the picture of a photo and what it shows, in words."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="photos, or folders of them, searched recursively")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='"cat, sofa | couch, other" (| separates synonyms), or a .txt file of names')
    parser.add_argument("--background", metavar="NAME", help="which of the classes stands for everything else")
    parser.add_argument("--config", help="config file of the model; default: the one in the checkpoint")
    parser.add_argument("--checkpoint", help="its weights; default: those that the config starts from")
    parser.add_argument("--out", help="the picture (default: overlay.png); for several photos a folder (overlays)")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA where there is one")
    parser.add_argument("--alpha", type=float, help="opacity of the colors, 0..1")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help="leave out objects below it, 0..1")
    arguments, rest = parser.parse_known_args()
    if rest:
        hint = '; several names are one text in quotes: --classes "cat, sofa"' if arguments.classes else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    for name in ("alpha", "min_score"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            parser.error(f"--{name.replace('_', '-')}: expected 0..1, got {value:g}")
    if arguments.config is None and arguments.checkpoint is None:
        parser.error("--checkpoint, --config, or both are required")
    if arguments.show == "classes" and arguments.classes is None:
        parser.error("--classes is required to show classes")
    return arguments


def main() -> None:
    """Draw an overlay of each photo."""
    arguments = parse_arguments()
    with one_line_errors():
        keep_freed_memory()
        found = list(find_photos(arguments.images, arguments.out))
        photos = [photo for photo, _ in found]
        outs = picture_files(found, arguments.out, is_one_file=not any(map(os.path.isdir, arguments.images)))
        is_named = arguments.show == "classes"
        vocabulary = read_vocabulary(arguments.classes, arguments.background) if is_named else None
        predictor = load(arguments.config, arguments.checkpoint, arguments.device)
        if vocabulary is None:
            show: Show = partial(show_groups, predictor, alpha=arguments.alpha)
        else:
            show = partial(show_classes, predictor, vocabulary, alpha=arguments.alpha, min_score=arguments.min_score)
        failed = draw_all(show, photos, outs)
    if failed:
        if len(photos) > 1:
            listed = "".join(f"\n  {printable(str(photo))}" for photo in failed)
            print(f"{len(failed)} of {len(photos)} photos were left out:{listed}", file=sys.stderr)
        sys.exit(1)


class PhotoFailed(Exception):
    """What keeps one photo from being drawn, and none of the others."""


def draw_all(show: Show, photos: list[Path], outs: list[Path]) -> list[Path]:
    """Draw photos and say what they show, with the time that is left; return those that could not be drawn."""
    failed, start = [], time.monotonic()
    for done, (photo, out) in enumerate(zip(photos, outs), start=1):
        name = printable(str(photo))
        try:
            words = draw(show, photo, out)
        except PhotoFailed as error:
            failed.append(photo)
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            continue
        left = (time.monotonic() - start) / done * (len(photos) - done)
        progress = f" ({done} of {len(photos)}, {timedelta(seconds=round(left))} left)" if len(photos) > 1 else ""
        lines = f"{name}: {words}\npicture: {printable(str(out))}{progress}"
        print(encodable(lines, sys.stdout), flush=True)
    return failed


def draw(show: Show, photo: Path, out: Path) -> str:
    """Draw one photo, and return what it shows, in words.

    Raises:
        PhotoFailed: it cannot be read or predicted, or a file cannot have the name of its picture.
        OSError: no picture can be written there.
    """
    try:
        picture, words = show(photo)
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error).removeprefix(f"{photo}: ").removeprefix(f"{printable(str(photo))}: ")
        raise PhotoFailed(printable(" ".join(reason.split())) or type(error).__name__) from error
    try:
        write_picture(picture, out)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not os.path.isdir(out.parent):
            raise
        raise PhotoFailed(f"{error.strerror}: {printable(out.name)}") from error
    return words


def picture_files(photos: list[tuple[Path, PurePath]], out: str | None, is_one_file: bool) -> list[Path]:
    """Return where the picture of each photo goes: one file, or files in a folder.

    Args:
        photos: the path of each, and its name in that folder.
        out: what the user gave as `--out`.
        is_one_file: of a single photo, `out` is the picture, not the folder that holds it.

    Raises:
        ValueError: two photos of one name, a photo that would be overwritten, or an extension that is no picture's.
    """
    if len(photos) == 1 and is_one_file:
        outs = [Path(out or "overlay.png")]
        if outs[0].suffix.lower() not in Image.registered_extensions():
            raise ValueError(f"--out: {outs[0].suffix or 'no extension'!r} is unknown as a picture; use .png or .jpg")
    else:
        stems = Counter(name.parent / name.stem for _, name in photos)
        names = [name if stems[name.parent / name.stem] > 1 else name.parent / name.stem for _, name in photos]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"{count} photos are called {str(name)!r}; draw them by commands of their own")
        outs = [Path(out or DEFAULT_FOLDER) / name.parent / f"{name.name}.png" for name in names]
    given = {os.path.realpath(photo) for photo, _ in photos}
    for path in outs:
        if os.path.realpath(path) in given:
            raise ValueError(f"{path} is one of the photos and would be overwritten; choose another --out")
    return outs


def read_vocabulary(classes: str, background: str | None) -> Vocabulary:
    """Read what the user gave as `--classes`, names or a .txt file of them, and as `--background`.

    Raises:
        ValueError: another kind of file, names that `Vocabulary.from_text` refuses, or a background not among them.
        FileNotFoundError: what looks like a file and is none.
    """
    vocabulary = _read_names(classes)
    return vocabulary if background is None else Vocabulary.from_names(vocabulary.synonyms, background=background)


def _read_names(classes: str) -> Vocabulary:
    path = Path(classes)
    if os.path.isfile(path):
        if path.suffix.lower() == ".txt":
            return as_vocabulary(read_class_names(path))
        raise ValueError(f"--classes: {classes} is a file; names are read from .txt files, one class a line")
    if path.suffix.lower() in FILE_ENDINGS and "," not in classes:
        raise FileNotFoundError(f"--classes: {classes} looks like a file, and there is none")
    return as_vocabulary(classes)


def find_photos(paths: list[str], out: str | None) -> Iterator[tuple[Path, PurePath]]:
    """Yield the photos among `paths`, and those below folders, by name and without hidden ones.

    Pictures of an earlier command, in a folder `out` within such a folder, are none.

    Returns:
        the path of each, and its path below the folder that was given, or its name.

    Raises:
        FileNotFoundError: a path that does not exist, or a folder without photos.
        OSError: a folder that may not be read, or a name that is too long.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):
            pictures = Path(os.path.realpath(out or DEFAULT_FOLDER))
            photos = list_images(path)
            if pictures != Path(os.path.realpath(path)):
                folders = {photo.parent for photo in photos}
                ours = {folder for folder in folders if Path(os.path.realpath(folder)).is_relative_to(pictures)}
                if count := sum(photo.parent in ours for photo in photos):
                    print(f"{printable(str(pictures))} holds results: {count} there are no photos", file=sys.stderr)
                photos = [photo for photo in photos if photo.parent not in ours]
            if not photos:
                raise FileNotFoundError(f"no photos in {path}; they end in {', '.join(sorted(IMAGE_EXTENSIONS))}")
            yield from ((photo, photo.relative_to(path)) for photo in photos)
        elif is_there(path):  # a link that leads nowhere is a photo that cannot be read
            yield path, PurePath(path.name)
        elif "://" in str(path) or ":/" in str(path):
            raise FileNotFoundError(f"{path}: addresses are not fetched; download the file and give its path")
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")


def is_there(path: Path) -> bool:
    """Say whether a file or link is at a path, wherever the link leads.

    Raises:
        OSError: the path may not be looked up, or is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def show_classes(
    predictor: Predictor, vocabulary: Vocabulary, photo: Path, alpha: float | None, min_score: float
) -> tuple[np.ndarray, str]:
    """Draw where the classes are in a photo, and say which there are."""
    prediction = predictor(photo, vocabulary)
    image = read_image(photo, max_pixels=None)  # the model's own pipeline has taken it
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
    image = read_image(photo, max_pixels=None)
    picture = draw_groups(image, group_maps, alpha=MAP_ALPHA if alpha is None else alpha)
    return picture, ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1))


if __name__ == "__main__":
    main()
