"""List the published models: task, license, size, published score, and whether the weights are here already.

openvocab models
openvocab models --head lseg --commercial
openvocab models --tower vit-b16 --task segmentation
openvocab models groupvit-gcc-yfcc

With a name, everything about that model: where its weights come from, their license, and how to use them. The filters
ignore case and punctuation, and take a part of a name. --json prints a list of models, or the one that is named.
"""

import argparse
import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

from openvocab.commands.answers import table, write_answer
from openvocab.commands.parser import offer
from openvocab.zoo.cache import fetched_file, hand_file
from openvocab.zoo.models import ZooModel, zoo_models

IS_LIGHT = True
FILTERS = ("task", "head", "tower", "license")
_HUB = "https://huggingface.co"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    offer(parser.add_argument("model", nargs="?", help="show everything about this model"), "models")
    parser.add_argument("--task", help="only models of this task: segmentation, detection, classification")
    parser.add_argument("--head", help="only models with this head, such as lseg")
    parser.add_argument("--tower", help="only models with this image or text tower, such as vit-b16")
    parser.add_argument("--license", help="only models whose weights have this license, such as mit")
    parser.add_argument("--commercial", action="store_true", help="only models whose license allows commercial use")


def run(arguments: argparse.Namespace) -> int:
    """Print the list, or one model."""
    models = zoo_models()
    if arguments.model is not None:
        model = _named(arguments.model, models)
        write_answer(_description(model), facts_of(model), arguments.json)
        return 0
    chosen = _filtered(models, arguments)
    if not chosen:
        sys.stderr.write(f"none of the {len(models)} published models has all of this\n")
    write_answer(_listed(chosen) if chosen else "", [facts_of(model) for model in chosen], arguments.json)
    return 0


def facts_of(model: ZooModel) -> dict[str, Any]:
    """Return what `--json` prints of a model."""
    from openvocab.zoo.parts import model_parts

    return {
        "name": model.name,
        "what": model.what,
        "task": model.task,
        **dataclasses.asdict(model_parts(model)),
        "config": model.config,
        "settings": dict(model.settings),
        "source": _source(model),
        "license": model.license,
        "commercial": model.commercial,
        "megabytes": model.megabytes,
        "computed_megabytes": model.computed_megabytes,
        "published": model.published,
        "ours": model.ours,
        "fetched": fetched_file(model),
    }


def _named(name: str, models: Sequence[ZooModel]) -> ZooModel:
    """Return the model of this name.

    Raises:
        ValueError: there is none; the nearest ones are listed.
    """
    for model in models:
        if model.name == name:
            return model
    near = difflib.get_close_matches(name, [model.name for model in models], n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`openvocab models` lists all"
    raise ValueError(f"no published model is called {name!r}; {hint}")


def _filtered(models: Sequence[ZooModel], arguments: argparse.Namespace) -> list[ZooModel]:
    """Return the models that all filters admit.

    Raises:
        ValueError: a filter alone admits none; what it could ask for is listed.
    """
    chosen = [model for model in models if model.commercial or not arguments.commercial]
    for key in FILTERS:
        asked = getattr(arguments, key)
        if asked is None:
            continue
        admitted = {model.name for model in models if any(_letters(asked) in _letters(v) for v in _values(model, key))}
        if not admitted:
            there = sorted({value for model in models for value in _values(model, key)})
            raise ValueError(f"--{key} {asked}: no published model has that; there are {', '.join(there)}")
        chosen = [model for model in chosen if model.name in admitted]
    return chosen


def _values(model: ZooModel, key: str) -> tuple[str, ...]:
    facts = facts_of(model)
    names = ("image_tower", "text_tower") if key == "tower" else (key,)
    return tuple(facts[name] for name in names if facts[name] is not None)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def _listed(models: Sequence[ZooModel]) -> str:
    head = ("name", "task", "license", "commercial use", "size", "fetched", "published")
    rows = [
        (
            model.name,
            model.task,
            model.license,
            "yes" if model.commercial else "restricted",
            _size(model),
            "yes" if fetched_file(model) else "no",
            model.published,
        )
        for model in models
    ]
    return table([head, *rows]) + "\n\n`openvocab models NAME` shows everything about one of them."


def _size(model: ZooModel) -> str:
    """Return the size of the download, or about that of the weights, which is computed, if no file states it."""
    if model.megabytes is not None:
        return f"{model.megabytes} MB"
    return "unknown" if model.computed_megabytes is None else f"about {model.computed_megabytes} MB"


def _source(model: ZooModel) -> str:
    if model.tag is not None:
        architecture, _, tag = model.tag.rpartition("/")
        return f"open_clip's weights {tag!r} of {architecture}"
    if model.hub is not None:
        return f"{_HUB}/{model.hub.partition('@')[0]} ({' or '.join(model.files)})"
    return f"{model.by_hand} (download {model.file} and put it at {hand_file(model)})"


def _description(model: ZooModel) -> str:
    facts = facts_of(model)
    commercial = "commercial use allowed" if model.commercial else "restricts commercial use: read it"
    settings = "; ".join(f"{key}={value}" for key, value in model.settings.items())
    option, argument = ("", "") if model.commercial else (" --accept-license", ", accept_license=True")
    lines = [
        ("task", model.task),
        ("head", facts["head"]),
        ("image tower", facts["image_tower"]),
        ("text tower", facts["text_tower"]),
        ("config", model.config + (f", with {settings}" if settings else "")),
        ("weights", facts["source"]),
        ("fetched", facts["fetched"] or "no: at the first use"),
        ("size", _size(model)),
        ("license", f"{model.license} ({commercial})"),
        ("published", model.published),
        ("measured", model.ours),
    ]
    width = max(len(name) for name, _ in lines)
    facts_text = "\n".join(f"  {name:{width}}  {value}" for name, value in lines if value is not None)
    command = f'openvocab predict photo.jpg "cat, sofa, floor" --model {model.name}{option}'
    program = f'import openvocab\nopenvocab.load("{model.name}"{argument})("photo.jpg", "cat, sofa, floor")'
    return f"{model.name}: {model.what}\n\n{facts_text}\n\n{command}\n\n{program}"
