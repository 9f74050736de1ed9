"""Find classes, by their names, in photos: segments or boxes, whichever the model predicts.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
Thousands of names, one per line:
python tools/demo.py photo.jpg --classes names.txt --config configs/vild_shapes.py \
    --checkpoint work_dirs/vild_shapes/best.pth --min-score 0.5
Without training, with the weights that the config starts from (docs/training_free.md):
python tools/demo.py photo.jpg --classes "cat, sofa, floor" --config configs/dense_clip_ade.py
The name of the background, for a model that finds it by a threshold:
python tools/demo.py photo.jpg --classes "red circle, blue star, other" --background other \
    --config configs/groupvit_shapes.py --checkpoint work_dirs/groupvit_shapes/best.pth
The groups that GroupViT forms, without class names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
A folder of photos, searched recursively; the pictures are written to the same subfolders of --out:
python tools/demo.py photos --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out pictures

A photo that cannot be read or predicted, or whose picture would have too long a name, is skipped and listed at the end.
Exit code: 0; 1 if a photo was skipped; 2 if the command itself cannot be carried out.
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
    draw_detections,
)
from openvocab.drawing.class_figures import describe_areas, describe_objects
from openvocab.drawing.picture_files import write_picture
from openvocab.drawing.visualization import MAP_ALPHA, draw_label_map
from openvocab.engine.allocator import keep_freed_memory
from openvocab.files.printable_text import encodable, printable
from openvocab.group_overlays import draw_groups, find_groups
from openvocab.images.image_io import read_image
from openvocab.predictor import Predictor, as_vocabulary, load
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.vocabulary.vocabulary import FILE_ENDINGS, Vocabulary, read_class_names

DEFAULT_FOLDER = "overlays"
"""Default folder for the pictures of several photos."""
Show = Callable[[Path], tuple[np.ndarray, str]]
"""Returns the picture (H, W, 3) of a photo, and a description of what it shows."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="photos, or folders of them, searched recursively")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='"cat, sofa | couch, other" (| separates synonyms), or a .txt file of names')
    parser.add_argument("--background", metavar="NAME", help="the class that means everything else")
    parser.add_argument("--config", help="config file of the model; default: the one in the checkpoint")
    parser.add_argument("--checkpoint", help="weights of the model; default: those that the config starts from")
    parser.add_argument("--out", help="the picture (default: overlay.png); for several photos a folder (overlays)")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA if available")
    parser.add_argument("--alpha", type=float, help="opacity of the colors, 0..1")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help="lowest score of a drawn object, 0..1")
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
        named_photos = list(find_photos(arguments.images, arguments.out))
        photos = [photo for photo, _ in named_photos]
        outs = picture_files(named_photos, arguments.out, is_one_file=not any(map(os.path.isdir, arguments.images)))
        shows_classes = arguments.show == "classes"
        vocabulary = read_vocabulary(arguments.classes, arguments.background) if shows_classes else None
        predictor = load(arguments.config, arguments.checkpoint, arguments.device)
        if vocabulary is None:
            show: Show = partial(show_groups, predictor, alpha=arguments.alpha)
        else:
            show = partial(show_classes, predictor, vocabulary, alpha=arguments.alpha, min_score=arguments.min_score)
        failed = draw_all(show, photos, outs)
    if failed:
        if len(photos) > 1:
            listed = "".join(f"\n  {printable(str(photo))}" for photo in failed)
            print(f"{len(failed)} of {len(photos)} photos were skipped:{listed}", file=sys.stderr)
        sys.exit(1)


class PhotoFailed(Exception):
    """A photo cannot be drawn; the others still can."""


def draw_all(show: Show, photos: list[Path], outs: list[Path]) -> list[Path]:
    """Draw photos and print what they show, with the remaining time; return those that could not be drawn."""
    failed, start = [], time.monotonic()
    for done, (photo, out) in enumerate(zip(photos, outs), start=1):
        name = printable(str(photo))
        try:
            description = draw(show, photo, out)
        except PhotoFailed as error:
            failed.append(photo)
            print(f"error: {name}: {error}", file=sys.stderr, flush=True)
            continue
        left = (time.monotonic() - start) / done * (len(photos) - done)
        progress = f" ({done} of {len(photos)}, {timedelta(seconds=round(left))} left)" if len(photos) > 1 else ""
        lines = f"{name}: {description}\npicture: {printable(str(out))}{progress}"
        print(encodable(lines, sys.stdout), flush=True)
    return failed


def draw(show: Show, photo: Path, out: Path) -> str:
    """Draw one photo, and return a description of what it shows.

    Raises:
        PhotoFailed: the photo cannot be read or predicted, or the name of its picture is too long for a file.
        OSError: no picture can be written to that folder.
    """
    try:
        picture, description = show(photo)
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error).removeprefix(f"{photo}: ").removeprefix(f"{printable(str(photo))}: ")
        raise PhotoFailed(printable(" ".join(reason.split())) or type(error).__name__) from error
    try:
        write_picture(picture, out)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not os.path.isdir(out.parent):
            raise
        raise PhotoFailed(f"{error.strerror}: {printable(out.name)}") from error
    return description


def picture_files(photos: list[tuple[Path, PurePath]], out: str | None, is_one_file: bool) -> list[Path]:
    """Return the path of each photo's picture: one file, or files in a folder.

    Args:
        photos: the path of each photo, and its name in that folder.
        out: the user's `--out`.
        is_one_file: whether `out` is the picture, not its folder, if there is a single photo.

    Raises:
        ValueError: two photos have the same name, a photo would be overwritten, or the extension is not that of a
            picture format.
    """
    if len(photos) == 1 and is_one_file:
        outs = [Path(out or "overlay.png")]
        if outs[0].suffix.lower() not in Image.registered_extensions():
            extension = outs[0].suffix or "no extension"
            raise ValueError(f"--out: {extension!r} is not the extension of a picture format; use .png or .jpg")
    else:
        stems = Counter(name.parent / name.stem for _, name in photos)
        names = [name if stems[name.parent / name.stem] > 1 else name.parent / name.stem for _, name in photos]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"{count} photos are called {str(name)!r}; draw them with separate commands")
        outs = [Path(out or DEFAULT_FOLDER) / name.parent / f"{name.name}.png" for name in names]
    originals = {os.path.realpath(photo) for photo, _ in photos}
    for path in outs:
        if os.path.realpath(path) in originals:
            raise ValueError(f"{path} is one of the photos and would be overwritten; choose another --out")
    return outs


def read_vocabulary(classes: str, background: str | None) -> Vocabulary:
    """Read the user's `--classes`, names or a .txt file of them, and `--background`.

    Raises:
        ValueError: `--classes` is another file, `Vocabulary.from_text` rejects the names, or the background is not
            among them.
        FileNotFoundError: `--classes` looks like a file that does not exist.
    """
    vocabulary = _read_names(classes)
    return vocabulary if background is None else Vocabulary.from_names(vocabulary.synonyms, background=background)


def _read_names(classes: str) -> Vocabulary:
    path = Path(classes)
    if os.path.isfile(path):
        if path.suffix.lower() == ".txt":
            return as_vocabulary(read_class_names(path))
        raise ValueError(f"--classes: {classes} is a file; names are read from .txt files, one class per line")
    if path.suffix.lower() in FILE_ENDINGS and "," not in classes:
        raise FileNotFoundError(f"--classes: {classes} looks like a file, but it does not exist")
    return as_vocabulary(classes)


def find_photos(paths: list[str], out: str | None) -> Iterator[tuple[Path, PurePath]]:
    """Yield the photos among `paths`, and those in folders, in alphabetical order and without hidden ones.

    The pictures of an earlier command, in a folder `out` within such a folder, are not photos.

    Yields:
        The path of a photo, and its path relative to the folder among `paths`, or its name.

    Raises:
        FileNotFoundError: a path does not exist, or a folder has no photos.
        OSError: a folder cannot be read, or a name is too long.
    """
    for path in map(Path, paths):
        if os.path.isdir(path):
            photos = _without_results(list_images(path), path, out)
            if not photos:
                raise FileNotFoundError(f"no photos in {path}; they end in {', '.join(sorted(IMAGE_EXTENSIONS))}")
            yield from ((photo, photo.relative_to(path)) for photo in photos)
        elif exists(path):  # a broken link is a photo that cannot be read
            yield path, PurePath(path.name)
        elif "://" in str(path) or ":/" in str(path):
            raise FileNotFoundError(f"{path}: URLs are not fetched; download the file and give its path")
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")


def _without_results(photos: list[Path], folder: Path, out: str | None) -> list[Path]:
    """Drop the pictures of an earlier command from the photos in `folder`, and print how many there are."""
    results = Path(os.path.realpath(out or DEFAULT_FOLDER))
    if results == Path(os.path.realpath(folder)):
        return photos
    parents = {photo.parent for photo in photos}
    result_folders = {parent for parent in parents if Path(os.path.realpath(parent)).is_relative_to(results)}
    if count := sum(photo.parent in result_folders for photo in photos):
        print(f"{count} pictures of an earlier command in {printable(str(results))} are ignored", file=sys.stderr)
    return [photo for photo in photos if photo.parent not in result_folders]


def exists(path: Path) -> bool:
    """Return whether there is a file or a link at a path, even a broken link.

    Raises:
        OSError: the path cannot be looked up, or is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def show_classes(
    predictor: Predictor, vocabulary: Vocabulary, photo: Path, alpha: float | None, min_score: float
) -> tuple[np.ndarray, str]:
    """Return a drawing of the classes in a photo, and a description of them."""
    prediction = predictor(photo, vocabulary)
    image = read_image(photo, max_pixels=None)  # no limit: the model's pipeline has accepted it
    if isinstance(prediction, SemanticPrediction):
        picture = draw_label_map(image, prediction, alpha=MAP_ALPHA if alpha is None else alpha)
        return picture, describe_areas(prediction)
    if isinstance(prediction, DetectionPrediction):
        objects = best_objects(prediction, min_score, MAX_OBJECTS)
        picture = draw_detections(image, objects, min_score=min_score, alpha=MASK_ALPHA if alpha is None else alpha)
        return picture, describe_objects(objects) or f"nothing with a score of {min_score:g} or more"
    raise TypeError(f"the demo draws label maps and boxes; this model returns a {type(prediction).__name__}")


def show_groups(predictor: Predictor, photo: Path, alpha: float | None) -> tuple[np.ndarray, str]:
    """Return a drawing of the groups in a photo, and their numbers."""
    group_maps = find_groups(predictor, photo)
    image = read_image(photo, max_pixels=None)
    picture = draw_groups(image, group_maps, alpha=MAP_ALPHA if alpha is None else alpha)
    return picture, ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1))


if __name__ == "__main__":
    main()
