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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvocab.commands.answers import write_answer
from openvocab.commands.parser import offer

if TYPE_CHECKING:
    from openvocab.predicting.output_files import OutputFiles
    from openvocab.predicting.sources import Photo, Source
    from openvocab.predictor import Predictor
    from openvocab.predictor.fixed_vocabulary import FixedVocabulary
    from openvocab.results.base import Result
    from openvocab.vocabulary.vocabulary import Vocabulary

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
    from openvocab.predicting.photo_loop import go_through, report_failed
    from openvocab.predicting.sources import count_photos, photos_of

    _check(arguments)
    keep_freed_memory()
    vocabulary, sources, outputs = _read_words(arguments)  # what is wrong with them is known before weights are fetched
    find = _load(arguments).vocabulary(vocabulary)
    answers = _Answers(outputs, arguments)
    try:
        total, failed = go_through(
            photos_of(sources), count_photos(sources), partial(_predict, find, arguments), answers.write,
            "picture" if outputs.formats == ("overlay",) else "files", quiet=arguments.json,
        )  # fmt: skip
    finally:  # what is done stays, also if the command is stopped
        written = outputs.finish()
    report_failed(failed, total)
    if len(vocabulary) == 1 and answers.has_label_maps:
        sys.stderr.write('a single name gets every pixel: name what else there may be, such as "cat, other"\n')
    summary = "".join(f"all results: {path}\n" for path in written)
    write_answer(summary, answers.to_json([photo.display_name for photo in failed]), arguments.json)
    return 1 if failed else 0


def _read_words(arguments: argparse.Namespace) -> "tuple[Vocabulary, list[Source], OutputFiles]":
    """Return the names, the photos, and where their results go.

    Raises:
        ValueError, FileNotFoundError: one of them cannot be used.
    """
    from openvocab.predicting.names import read_names
    from openvocab.predicting.output_files import OutputFiles
    from openvocab.predicting.sources import find_sources

    words, names, option = arguments.words, arguments.classes, "--classes"
    if names is None:
        *words, names = words
        option = "names"
    vocabulary = read_names(names, arguments.background, option)
    formats = list(dict.fromkeys(arguments.format or ["overlay"]))
    _check_heat(arguments.heat, vocabulary, formats)
    sources = find_sources(words, arguments.out or DEFAULT_FOLDER, arguments.every)
    return vocabulary, sources, OutputFiles(sources, formats, *_folder_and_file(arguments.out, words, sources, formats))


def _model(arguments: argparse.Namespace) -> str | None:
    """Return the model to load; None for that of the checkpoint."""
    return arguments.model or (DEFAULT_MODEL if arguments.checkpoint is None else None)


def _load(arguments: argparse.Namespace) -> "Predictor":
    from openvocab.predictor import load
    from openvocab.process.start_up import collect_as_usual

    model = _model(arguments)
    predictor = load(model, arguments.checkpoint, arguments.device, accept_license=arguments.accept_license)
    collect_as_usual()
    return predictor


def _predict(find: "FixedVocabulary", arguments: argparse.Namespace, photo: "Photo") -> "Result":
    result = find(photo.source, min_score=arguments.min_score, scores=bool(arguments.heat), tile=arguments.tile)
    result.sample_id = photo.display_name
    return result


class _Answers:
    """The results that were written, for --json."""

    def __init__(self, outputs: "OutputFiles", arguments: argparse.Namespace) -> None:
        self.outputs, self.arguments = outputs, arguments
        self.has_label_maps = False
        self._results: list[dict[str, Any]] = []

    def write(self, photo: "Photo", result: "Result") -> tuple[str, list[Path]]:
        """Write the files of a result; return what it shows, and its files."""
        from openvocab.results import SemanticResult

        self.has_label_maps |= isinstance(result, SemanticResult)
        files = self.outputs.write(photo, result, self.arguments.heat or "")
        if self.arguments.json:
            self._results.append(result.to_json() | {"files": files})
        return result.describe(), files

    def to_json(self, skipped: list[str]) -> dict[str, Any]:
        """Return the answer for programs, given the names of the photos without a result."""
        model = _model(self.arguments) or self.arguments.checkpoint
        return {"model": model, "results": self._results, "skipped": skipped}


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
