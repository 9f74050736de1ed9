"""Segment photos into the classes you name.

python tools/demo.py photo.jpg --classes "cat, sofa, floor, other" --config configs/lseg_shapes.py \
    --checkpoint work_dirs/lseg_shapes/best.pth --out overlay.png
The groups that GroupViT forms, without any names:
python tools/demo.py photo.jpg --show groups --config configs/groupvit_shapes.py \
    --checkpoint work_dirs/groupvit_shapes/best.pth --out groups.png
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from mmengine.logging import MMLogger
from PIL import Image

from openvocab.command_line import one_line_errors
from openvocab.datasets.image_io import read_image
from openvocab.group_overlays import draw_groups, find_groups
from openvocab.inference.predictor import Predictor, as_vocabulary, load
from openvocab.structures import SemanticPrediction
from openvocab.text.vocabulary import Vocabulary
from openvocab.visualization import class_shares, draw_label_map

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", help="photos, or folders of them")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='names, e.g. "cat, sofa | couch, other"; | separates synonyms')
    parser.add_argument("--config", required=True, help="config file of the model")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument("--out", default="overlay.png", help="the picture; for several photos a folder")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA where there is one")
    parser.add_argument("--alpha", type=float, default=0.55, help="opacity of the colours, 0..1")
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
        vocabulary = as_vocabulary(arguments.classes) if arguments.show == "classes" else None
        predictor = load(arguments.config, arguments.checkpoint, arguments.device)
        for photo in photos:
            out = Path(arguments.out)
            if len(photos) > 1:
                out = out / f"{photo.stem}.png"
            if vocabulary is None:
                show_groups(predictor, photo, arguments.alpha, out)
            else:
                show(predictor, photo, vocabulary, arguments.alpha, out)


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


def show(predictor: Predictor, photo: Path, vocabulary: Vocabulary, alpha: float, out: Path) -> None:
    """Write the picture of one photo, and say where it is and what it shows."""
    image = read_image(photo)
    prediction = predictor(image, vocabulary)
    if not isinstance(prediction, SemanticPrediction):
        raise TypeError(f"the demo draws label maps; this model gives {type(prediction).__name__}")
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_label_map(image, prediction, alpha=alpha)).save(out)
    names = prediction.class_names
    shares = class_shares(prediction.label_map, len(names))
    print(f"{photo}: " + ", ".join(f"{names[label]} {100 * share:.1f} %" for label, share in shares.items()))
    print(f"picture: {out}")


def show_groups(predictor: Predictor, photo: Path, alpha: float, out: Path) -> None:
    """Write the picture of one photo and its groups, and say where it is and how many there are."""
    image = read_image(photo)
    group_maps = find_groups(predictor, image)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_groups(image, group_maps, alpha=alpha)).save(out)
    print(f"{photo}: " + ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1)))
    print(f"picture: {out}")


if __name__ == "__main__":
    main()
