"""Find the classes you name in photos: segments or boxes, whichever the model predicts.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
Thousands of names, one a line:
python tools/demo.py photo.jpg --classes names.txt --config configs/vild_shapes.py \
    --checkpoint work_dirs/vild_shapes/best.pth --min-score 0.5
The groups that GroupViT forms, without any names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
"""

import openvocab.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.logging import MMLogger
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
from openvocab.drawing.visualization import MAP_ALPHA, describe_areas, draw_label_map
from openvocab.inference.predictor import Predictor, as_vocabulary, load
from openvocab.structures import DetectionPrediction, SemanticPrediction
from openvocab.text.vocabulary import Vocabulary, read_class_names

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="photos, or folders of them")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='"cat, sofa | couch, other" (| separates synonyms), or a .txt file of names')
    parser.add_argument("--config", required=True, help="config file of the model")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument("--out", help="the picture (default: overlay.png); for several photos a folder (overlays)")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA where there is one")
    parser.add_argument("--alpha", type=float, help="opacity of the colours, 0..1")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help="leave out objects below it, 0..1")
    arguments = parser.parse_args()
    if arguments.show == "classes" and arguments.classes is None:
        parser.error("--classes is required to show classes")
    return arguments


def main() -> None:
    """Draw an overlay of each photo."""
    arguments = parse_arguments()
    MMLogger.get_instance("demo", log_level="WARNING")
    with one_line_errors():
        photos = list(find_photos(arguments.images))
        vocabulary = read_vocabulary(arguments.classes) if arguments.show == "classes" else None
        predictor = load(arguments.config, arguments.checkpoint, arguments.device)
        for photo, out in zip(photos, picture_files(photos, arguments.out)):
            if vocabulary is None:
                show_groups(predictor, photo, arguments.alpha, out)
            else:
                show(predictor, photo, vocabulary, arguments.alpha, arguments.min_score, out)


def picture_files(photos: list[Path], out: str | None) -> list[Path]:
    """Return where the picture of each photo goes: one file, or files of their names in a folder."""
    if len(photos) == 1:
        return [Path(out or "overlay.png")]
    stems = [photo.stem for photo in photos]
    for stem in stems:
        if stems.count(stem) > 1:
            raise ValueError(f"{stems.count(stem)} photos are called {stem!r}; draw them by commands of their own")
    return [Path(out or "overlays") / f"{stem}.png" for stem in stems]


def read_vocabulary(classes: str) -> Vocabulary:
    """Read what the user gave as `--classes`."""
    return as_vocabulary(read_class_names(classes) if classes.endswith(".txt") else classes)


def find_photos(paths: list[str]) -> Iterator[Path]:
    """Yield the photos among `paths`, those in folders by name."""
    for path in map(Path, paths):
        if not path.is_dir():
            yield path
            continue
        photos = sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS)
        if not photos:
            raise FileNotFoundError(f"no photos in {path}")
        yield from photos


def show(
    predictor: Predictor, photo: Path, vocabulary: Vocabulary, alpha: float | None, min_score: float, out: Path
) -> None:
    """Write the picture of one photo, and say where it is and what it shows."""
    image = read_image(photo)
    prediction = predictor(image, vocabulary)
    if isinstance(prediction, SemanticPrediction):
        picture = draw_label_map(image, prediction, alpha=MAP_ALPHA if alpha is None else alpha)
        words = describe_areas(prediction)
    elif isinstance(prediction, DetectionPrediction):
        objects = best_objects(prediction, min_score, MAX_OBJECTS)
        picture = draw_detections(image, objects, min_score=min_score, alpha=MASK_ALPHA if alpha is None else alpha)
        words = describe_objects(objects) or f"nothing with a score of {min_score:g} or more"
    else:
        raise TypeError(f"the demo draws label maps and boxes; this model gives a {type(prediction).__name__}")
    save(picture, out)
    print(f"{photo}: {words}\npicture: {out}")


def show_groups(predictor: Predictor, photo: Path, alpha: float | None, out: Path) -> None:
    """Write the picture of one photo and its groups, and say where it is and how many there are."""
    image = read_image(photo)
    group_maps = find_groups(predictor, image)
    save(draw_groups(image, group_maps, alpha=MAP_ALPHA if alpha is None else alpha), out)
    words = ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1))
    print(f"{photo}: {words}\npicture: {out}")


def save(picture: np.ndarray, out: Path) -> None:
    """Write a picture, and the folder for it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(out)


if __name__ == "__main__":
    main()
