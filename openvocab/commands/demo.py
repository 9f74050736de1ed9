"""Draw classes, the phrases of a caption, or the groups of GroupViT: pictures only, with the options of tools/demo.py.

openvocab demo photo.jpg --classes "cat, sofa, floor, other" --config lseg_shapes --checkpoint best.pth
openvocab demo photo.jpg --show groups --config groupvit_shapes --checkpoint best.pth --out groups.png
openvocab demo photo.jpg --caption "a woman in a red coat walks two small dogs" --checkpoint glip.pth
openvocab demo photos --classes names.txt --config vild_shapes --checkpoint best.pth --min-score 0.5 --out pictures

`openvocab predict` does the same and more, except for captions and groups. A caption needs a model that reads phrases,
as GLIP does; --phrases marks other parts of it than its noun phrases. A photo that cannot be read or predicted, or
whose picture would have too long a name, is skipped and listed at the end.
Exit code: 0; 1 if a photo was skipped; 2 if the command itself cannot be carried out.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from openvocab.commands.answers import write_answer
from openvocab.commands.parser import offer

DEFAULT_FOLDER, DEFAULT_FILE = "overlays", "overlay.png"
"""Default folder for the pictures of several photos, and default file for one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("images", nargs="+", help="photos, or folders of them, searched recursively")
    parser.add_argument("--show", choices=("classes", "groups"), default="classes", help="groups: those of GroupViT")
    parser.add_argument("--classes", help='"cat, sofa | couch, other" (| separates synonyms), or a .txt file of names')
    parser.add_argument(
        "--caption", metavar="TEXT", help="a sentence, to find what its phrases name; instead of classes"
    )
    parser.add_argument("--phrases", help='parts of the caption: "a coat, small dogs"; default: its noun phrases')
    parser.add_argument("--background", metavar="NAME", help="the class that means everything else")
    config = parser.add_argument("--config", help="config of the model; default: the one in the checkpoint")
    offer(config, "configs", "models")
    parser.add_argument("--checkpoint", help="weights of the model; default: those that the config starts from")
    parser.add_argument("--out", help="the picture (default: overlay.png); for several photos a folder (overlays)")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA if available")
    parser.add_argument("--alpha", type=float, help="opacity of the colors, 0..1")
    parser.add_argument("--min-score", type=float, help="lowest score of a drawn object, 0..1")


def run(arguments: argparse.Namespace) -> int:
    """Draw all photos."""
    from openvocab.engine.allocator import keep_freed_memory
    from openvocab.predicting.output_files import OutputFiles
    from openvocab.predicting.photo_loop import go_through, report_failed
    from openvocab.predicting.sources import count_photos, find_sources, photos_of

    _check(arguments)
    keep_freed_memory()
    sources = find_sources(arguments.images, arguments.out or DEFAULT_FOLDER)
    is_one = len(sources) == 1 and not any(map(os.path.isdir, arguments.images))
    file = Path(arguments.out or DEFAULT_FILE) if is_one else None
    outputs = OutputFiles(sources, ["overlay"], Path(arguments.out or DEFAULT_FOLDER), file)
    show = _show(arguments)
    pictures: list[dict[str, Any]] = []

    def write(photo: Any, answer: tuple[Any, str]) -> tuple[str, list[Path]]:
        path = outputs.write_picture(photo, answer[0])
        pictures.append({"image": photo.display_name, "found": answer[1], "picture": path})
        return answer[1], [path]

    total, failed = go_through(photos_of(sources), count_photos(sources), show, write, "picture", quiet=arguments.json)
    report_failed(failed, total)
    write_answer("", {"pictures": pictures, "skipped": [photo.display_name for photo in failed]}, arguments.json)
    return 1 if failed else 0


def _check(arguments: argparse.Namespace) -> None:
    """Check what the parser does not.

    Raises:
        ValueError: an argument out of range, or a missing one.
    """
    for name in ("alpha", "min_score"):
        value = getattr(arguments, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"--{name.replace('_', '-')}: expected 0..1, got {value:g}")
    if arguments.config is None and arguments.checkpoint is None:
        raise ValueError("--checkpoint, --config, or both are required")
    if arguments.caption is not None:
        if arguments.show == "groups" or arguments.classes is not None or arguments.background is not None:
            raise ValueError("--caption stands alone: leave out --classes and --background, and --show groups")
    elif arguments.phrases is not None:
        raise ValueError("--phrases are parts of a caption: give it, too, as --caption")
    elif arguments.show == "classes" and arguments.classes is None:
        raise ValueError("--classes or --caption is required, or --show groups")


def _show(arguments: argparse.Namespace) -> Callable[[Any], tuple[Any, str]]:
    """Return a function from a photo to its picture (H, W, 3) and a description."""
    from openvocab.predicting.names import read_names
    from openvocab.predictor import load
    from openvocab.process.start_up import collect_as_usual

    vocabulary = None
    if arguments.classes is not None and arguments.show == "classes":
        vocabulary = read_names(arguments.classes, arguments.background)
    predictor = load(arguments.config, arguments.checkpoint, arguments.device)
    collect_as_usual()
    options = {} if arguments.alpha is None else {"alpha": arguments.alpha}
    if arguments.show == "groups":
        return partial(_draw_groups, predictor, options)
    if vocabulary is not None:
        return partial(_draw_found, predictor.vocabulary(vocabulary), options, arguments.min_score)
    phrases = None if arguments.phrases is None else [phrase.strip() for phrase in arguments.phrases.split(",")]
    find = partial(predictor.ground, caption=predictor.prompt(arguments.caption, phrases))
    return partial(_draw_found, find, options, arguments.min_score)


def _draw_found(find: Any, options: dict[str, Any], min_score: float | None, photo: Any) -> tuple[Any, str]:
    from openvocab.results import DetectionResult

    result = find(photo.source)
    if not isinstance(result, DetectionResult):
        return result.draw(**options), result.describe()
    from openvocab.drawing.box_drawing import MAX_OBJECTS, MIN_SCORE

    min_score = MIN_SCORE if min_score is None else min_score
    objects = result.filter(min_score, max_objects=MAX_OBJECTS)
    nothing = f"nothing with a score of {min_score:g} or more"
    return objects.draw(min_score=min_score, **options), objects.describe() if len(objects) else nothing


def _draw_groups(predictor: Any, options: dict[str, Any], photo: Any) -> tuple[Any, str]:
    from openvocab.group_overlays import draw_groups, find_groups
    from openvocab.images.image_content import repeatable
    from openvocab.images.image_input import accepted_image

    image = repeatable(photo.source)
    group_maps = find_groups(predictor, image)
    picture = draw_groups(accepted_image(image), group_maps, **options)
    return picture, ", ".join(f"stage {n}: {len(set(m.flat))} groups" for n, m in enumerate(group_maps, start=1))
