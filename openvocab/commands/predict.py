"""Find things in photos by their names, with a published model or one of your own.

openvocab predict photo.jpg "cat, sofa, floor, other"
openvocab predict photos/ "*.png" names.txt --format coco --format overlay --out found
openvocab predict video.mp4 "person, bicycle" --every 25 --model owlv2-base-patch16-ensemble --min-score 0.2
openvocab predict photo.jpg "helmet | hard hat, vest" --checkpoint work_dirs/my_objects/best.pth

The last word holds the names: commas separate them, | separates synonyms; or it is a .txt file, one name per line. All
words before it are photos: files, folders (searched recursively), patterns in quotes, addresses, videos, .txt files
that list them, or - for one from stdin. A photo that cannot be read or predicted is skipped, and listed at the end.

Without --model or --checkpoint, OpenAI's CLIP ViT-B/16 answers, which was never trained to segment: SC-CLIP reads it
out, PAMR refines the edges, and names that are nowhere probable are dropped. `openvocab models` lists the others.
Exit code: 0; 1 if a photo was skipped; 2 if the command itself cannot be carried out.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from openvocab.commands.answers import write_answer
from openvocab.commands.parser import offer

DEFAULT_MODEL = "dense-clip-any-names"
DEFAULT_FOLDER = "predictions"
FORMATS = ("overlay", "label-png", "coco", "yolo", "voc", "json", "csv", "npz", "geojson")
"""The names in `openvocab.results.formats.FORMATS`, whose module imports numpy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("words", nargs="+", metavar="PHOTO ... NAMES", help="photos, and last the names to look for")
    parser.add_argument("--classes", metavar="NAMES", help="the names, so that all words are photos")
    parser.add_argument("--background", metavar="NAME", help="the name that means everything else")
    model = parser.add_argument("--model", help=f"a published model, a config, or its name; default: {DEFAULT_MODEL}, "
                                                "or the one in --checkpoint")  # fmt: skip
    offer(model, "models", "configs")
    parser.add_argument("--checkpoint", help="weights of the model; alone, they name their model, too")
    parser.add_argument("--accept-license", action="store_true", help="I have read the license of the model's weights")
    parser.add_argument("--out", help=f"file of a single result, or folder; default: {DEFAULT_FOLDER}")
    parser.add_argument(
        "--format", action="append", choices=FORMATS, help="may be given several times; default: overlay"
    )
    parser.add_argument(
        "--min-score", type=float, metavar="S", help="leave out objects or pixels below this score, 0..1"
    )
    parser.add_argument("--tile", type=int, metavar="PIXELS", help="cut large photos into tiles of this size")
    parser.add_argument("--heat", metavar="NAME", help="draw where this name is probable, instead of all names")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="take one of N frames of a video")
    parser.add_argument("--device", help="e.g. cuda or cpu; default: CUDA if available")


def run(arguments: argparse.Namespace) -> int:
    """Predict all photos."""
    from openvocab.engine.allocator import keep_freed_memory
    from openvocab.predicting.names import read_names
    from openvocab.predicting.output_files import OutputFiles
    from openvocab.predicting.photo_loop import go_through, report_failed
    from openvocab.predicting.sources import count_photos, find_sources, photos_of
    from openvocab.predictor import load
    from openvocab.results import SemanticResult

    _check(arguments)
    keep_freed_memory()
    words, names = (arguments.words, arguments.classes)
    if names is None:
        *words, names = words
    vocabulary = read_names(names, arguments.background, "names" if arguments.classes is None else "--classes")
    formats = list(dict.fromkeys(arguments.format or ["overlay"]))
    _check_heat(arguments.heat, vocabulary, formats)
    sources = find_sources(words, arguments.out or DEFAULT_FOLDER, arguments.every)
    outputs = OutputFiles(sources, formats, *_folder_and_file(arguments.out, words, sources, formats))
    model = arguments.model or (DEFAULT_MODEL if arguments.checkpoint is None else None)
    predictor = load(model, arguments.checkpoint, arguments.device, accept_license=arguments.accept_license)
    find = predictor.vocabulary(vocabulary)
    answers: list[dict[str, Any]] = []
    kinds: set[type] = set()

    def predict(photo: Any) -> Any:
        result = find(photo.source, min_score=arguments.min_score, scores=bool(arguments.heat), tile=arguments.tile)
        result.sample_id = photo.display_name
        return result

    def write(photo: Any, result: Any) -> tuple[str, list[Path]]:
        kinds.add(type(result))
        files = outputs.write(photo, result, arguments.heat or "")
        if arguments.json:
            answers.append(result.to_json() | {"files": files})
        return result.describe(), files

    try:
        total, failed = go_through(
            photos_of(sources), count_photos(sources), predict, write, "picture" if formats == ["overlay"] else "files",
            quiet=arguments.json,
        )  # fmt: skip
    finally:  # what is done stays, also if the command is stopped
        written = outputs.finish()
    report_failed(failed, total)
    if len(vocabulary) == 1 and SemanticResult in kinds:
        sys.stderr.write('a single name gets every pixel: name what else there may be, such as "cat, other"\n')
    summary = "".join(f"all results: {path}\n" for path in written)
    value = {
        "model": model or arguments.checkpoint,
        "results": answers,
        "skipped": [photo.display_name for photo in failed],
    }
    write_answer(summary, value, arguments.json)
    return 1 if failed else 0


def _folder_and_file(
    out: str | None, words: list[str], sources: list[Any], formats: list[str]
) -> tuple[Path, Path | None]:
    """Return the folder of the results, and the file instead, if the user names one for a single photo."""
    from openvocab.predicting.sources import Photo

    is_single = len(words) == len(sources) == len(formats) == 1 and isinstance(sources[0], Photo)
    is_file = out is not None and Path(out).suffix != "" and not os.path.isdir(out) and not os.path.isdir(words[0])
    folder = Path(out or DEFAULT_FOLDER)
    return folder, folder if is_single and is_file else None


def _check(arguments: argparse.Namespace) -> None:
    """Check what the parser does not.

    Raises:
        ValueError: an argument out of range, or the names are missing.
    """
    if arguments.min_score is not None and not 0 <= arguments.min_score <= 1:
        raise ValueError(f"--min-score: expected 0..1, got {arguments.min_score:g}")
    if arguments.tile is not None and arguments.tile < 1:
        raise ValueError(f"--tile: expected at least 1 pixel, got {arguments.tile}")
    photos = arguments.words[:-1] if arguments.classes is None else arguments.words
    if any(word.endswith(",") for word in photos):
        raise ValueError('the names are one text in quotes: "cat, sofa"')
    if arguments.classes is None and len(arguments.words) == 1:
        photo = arguments.words[0]
        raise ValueError(f'expected photos and then names, got one word; try: openvocab predict {photo} "cat, sofa"')


def _check_heat(heat: str | None, vocabulary: Any, formats: list[str]) -> None:
    """Check the name whose scores are drawn, before anything is predicted.

    Raises:
        ValueError: it is not among the names, or no picture is asked for.
    """
    from openvocab.vocabulary.vocabulary import same_name_key

    if heat is None:
        return
    if same_name_key(heat) not in vocabulary.class_of_key:
        raise ValueError(f"--heat: {heat!r} is not among the names: {', '.join(vocabulary.class_names[:8])}")
    if "overlay" not in formats:
        raise ValueError("--heat is drawn in pictures; add --format overlay")
