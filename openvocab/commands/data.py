"""Check your own data before a training, count what is in it, and see it as the training sees it.

openvocab data check my.yaml --task segmentation
openvocab data check photos_and_masks/ --model clip-vit-b16
openvocab data stats export.json --task detection --json
openvocab data show my.yaml --out sheet.png --count 16

DATA is a data file (my.yaml, or data.yaml of ultralytics), a file of COCO, CVAT or Label Studio, or a folder.
`check` prints one line per finding, and ends with exit code 1 if one of them stops a training.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openvocab.commands.answers import table, write_answer
from openvocab.commands.data_config import DATA_HELP
from openvocab.commands.parser import offer

if TYPE_CHECKING:
    from openvocab.own_data.findings import Finding
    from openvocab.own_data.parts import OwnData, Task
    from openvocab.own_data.survey import PartSurvey

TASKS = ("segmentation", "detection")
MAX_COSINE = 0.95


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of check, stats and show."""
    work = parser.add_subparsers(dest="work", required=True, metavar="{check,stats,show}")
    check = work.add_parser("check", help="print what is wrong with the data")
    stats = work.add_parser("stats", help="print how many images, pixels and boxes there are of each class")
    show = work.add_parser("show", help="draw samples as the training sees them")
    for each in (check, stats, show):
        each.add_argument("data", metavar="DATA", help=DATA_HELP)
        each.add_argument("--task", choices=TASKS, help="what the labels are for, if they could be for both")
    offer(check.add_argument("--model", metavar="NAME",
                             help="published CLIP whose text tower compares the names"), "models")  # fmt: skip
    check.add_argument("--accept-license", action="store_true", help="of weights that restrict commercial use")
    check.add_argument("--max-cosine", type=float, default=MAX_COSINE,
                       help="names that are more alike are reported; default: %(default)s")  # fmt: skip
    show.add_argument("--out", type=Path, default=Path("samples.png"), help="picture to write; default: %(default)s")
    show.add_argument("--count", type=int, default=12, help="number of samples; default: %(default)s")
    show.add_argument("--part", choices=("train", "val", "test"), default="train", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Do one of the works."""
    from openvocab.own_data.class_names import with_names
    from openvocab.own_data.recognition import recognize

    data = recognize(arguments.data, arguments.task)
    task = data.task(arguments.task)
    data = with_names(data)
    with tempfile.TemporaryDirectory() as folder:
        works = {"check": _check, "stats": _stats, "show": _show}
        return works[arguments.work](arguments, data, task, Path(folder))


def _check(arguments: argparse.Namespace, data: "OwnData", task: "Task", folder: Path) -> int:
    from openvocab.own_data.findings import find

    surveys = _surveys(data, task, folder)
    findings = [*find(data, task, surveys), *_alike(arguments, data)]
    stops = any(finding.stops for finding in findings)
    verdict = "a training would stop" if stops else "nothing stops a training"
    facts = {part: _statistics(data, task, survey) for part, survey in surveys.items()}
    lines = [_statistics_text(data, task, facts), "", *map(str, findings), f"findings: {len(findings)}; {verdict}"]
    value = {"source": str(data.source), "kind": data.kind, "task": task, "parts": facts}
    answer = {**value, "findings": [_facts(one) for one in findings], "stops": stops}
    write_answer("\n".join(lines), answer, arguments.json)
    return int(stops)


def _facts(finding: "Finding") -> dict[str, Any]:
    return {**vars(finding), "examples": list(finding.examples)}


def _alike(arguments: argparse.Namespace, data: "OwnData") -> "list[Finding]":
    """Return a finding on names that the text tower of `--model` hardly tells apart."""
    if arguments.model is None:
        return []
    from openvocab.own_data.alike_names import alike_names
    from openvocab.own_data.findings import MAX_EXAMPLES, Finding
    from openvocab.vocabulary.vocabulary import Vocabulary

    vocabulary = Vocabulary.from_names(data.names or ())
    pairs = alike_names(_text_encoder(arguments.model, arguments.accept_license), vocabulary, arguments.max_cosine)
    examples = tuple(f"{one} ~ {other} ({cosine:.3f})" for one, other, cosine in pairs[:MAX_EXAMPLES])
    what = f"pairs of names that {arguments.model} hardly tells apart"
    return [Finding("names", what, len(pairs), examples, stops=False)] if pairs else []


def _text_encoder(name: str, accept_license: bool) -> Any:
    """Return the text tower of a published model."""
    from openvocab.own_data.training_config import find_tower
    from openvocab.text.clip_text import CLIPTextEncoder
    from openvocab.zoo.weights import prepare_weights

    model = find_tower(name)
    prepare_weights(model, accept_license)
    architecture, _, tag = (model.tag or "").rpartition("/")
    return CLIPTextEncoder(architecture, tag, templates="simple").eval()


def _stats(arguments: argparse.Namespace, data: "OwnData", task: "Task", folder: Path) -> int:
    surveys = _surveys(data, task, folder)
    facts = {part: _statistics(data, task, survey) for part, survey in surveys.items()}
    value = {"source": str(data.source), "kind": data.kind, "task": task, "parts": facts}
    write_answer(_statistics_text(data, task, facts), value, arguments.json)
    failures = [f"{part}: {survey.failure}" for part, survey in surveys.items() if survey.failure]
    for line in failures:
        sys.stderr.write(f"error: {line}\n")
    return int(bool(failures))


def _statistics(data: "OwnData", task: "Task", survey: "PartSurvey") -> dict[str, Any]:
    """Return what `--json` prints of one part."""
    unit = "pixels" if task == "segmentation" else "boxes"
    names = [several[0] for several in data.names or ()]
    counts = zip(names, survey.class_images.tolist(), survey.class_amounts.tolist())
    facts: dict[str, Any] = {
        "images": len(survey.images),
        "classes": {name: {"images": images, unit: amount} for name, images, amount in counts},
    }
    if task == "segmentation":
        facts["unlabeled_pixels"] = survey.unlabeled_pixels
    if len(survey.sizes):
        facts["heights"], facts["widths"] = (
            {"least": int(sides.min()), "median": float(sorted(sides)[len(sides) // 2]), "largest": int(sides.max())}
            for sides in survey.sizes.T
        )
    return facts


def _statistics_text(data: "OwnData", task: "Task", facts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of classes, a pair of columns per part, and a line on sizes per part."""
    unit = "pixels" if task == "segmentation" else "boxes"
    rows = [["class", *(f"{part} {what}" for part in facts for what in ("images", unit))]]
    for several in data.names or ():
        counts = [part["classes"][several[0]] for part in facts.values()]
        rows.append([several[0], *(str(count[what]) for count in counts for what in ("images", unit))])
    if task == "segmentation":
        unlabeled = [cell for part in facts.values() for cell in ("", str(part["unlabeled_pixels"]))]
        rows.append(["(unlabeled)", *unlabeled])
    lines = [f"{data.source}: {data.kind} for {task}", table(rows)]
    for part, each in facts.items():
        sizes = ""
        if "widths" in each:
            sizes = f", {_range(each['widths'])} pixels wide, {_range(each['heights'])} high"
        lines.append(f"{part}: {each['images']} images{sizes}")
    return "\n".join(lines)


def _range(sides: Mapping[str, int]) -> str:
    least, largest = sides["least"], sides["largest"]
    return str(least) if least == largest else f"{least} to {largest}"


def _show(arguments: argparse.Namespace, data: "OwnData", task: "Task", folder: Path) -> int:
    from openvocab.drawing.picture_files import write_picture
    from openvocab.own_data.sample_sheet import draw_sheet
    from openvocab.own_data.samples import training_samples

    if arguments.count < 1:
        raise ValueError(f"--count: expected at least 1, got {arguments.count}")
    items = training_samples(data, task, arguments.part, arguments.count, folder)
    titles = [Path(item["sample"].image_path).name for item in items]
    write_picture(draw_sheet(items, titles), arguments.out)
    value = {"out": str(arguments.out), "samples": [item["sample"].image_path for item in items]}
    write_answer(f"{arguments.out}: {len(items)} samples of {arguments.part}", value, arguments.json)
    return 0


def _surveys(data: "OwnData", task: "Task", folder: Path) -> "dict[str, PartSurvey]":
    """Read all parts, with a progress bar."""
    from openvocab.own_data.survey import survey_part
    from openvocab.progress import Progress

    return {part: survey_part(data, part, task, folder, Progress()) for part in data.parts}
