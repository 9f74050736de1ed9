"""The README of a published model, in the form that Hugging Face's hub reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openvocab.metrics.units import with_unit
from openvocab.publishing.facts import Scores

_SHOWN_CLASSES = 200


@dataclass(frozen=True)
class ModelCard:
    """What a model card states."""

    name: str
    source: str
    """What `openvocab.load` takes: "hf-hub:OWNER/NAME", or the name of the folder."""
    license: str | None
    task: str
    hub_task: str
    """The task as the hub calls it."""
    parts: Mapping[str, str]
    """{part of the model: name of its class}."""
    class_names: Sequence[str]
    """Classes of the training data."""
    training: Mapping[str, Any]
    """Facts of the training run, in the order in which they are shown."""
    scores: Sequence[Scores]
    versions: Mapping[str, str]

    def text(self) -> str:
        """Return the card as Markdown with a YAML header."""
        parts = [self._header(), self._introduction(), self._scores(), self._training()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _header(self) -> str:
        """Return the YAML header; JSON's texts and lists are YAML, too, whatever characters they have."""
        entries = {
            "library_name": "openvocab",
            "pipeline_tag": self.hub_task,
            "tags": ["openvocab", "open-vocabulary", self.parts["head"].removesuffix("Head").lower()],
        }
        if self.license is not None:
            entries = {"license": self.license, **entries}
        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items()]
        return "\n".join(["---", *lines, "---"])

    def _introduction(self) -> str:
        parts = ", ".join(f"{part} `{name}`" for part, name in self.parts.items())
        names = self.class_names[:3] if len(self.class_names) > 1 else ["cat", "sofa"]
        example = json.dumps(names, ensure_ascii=False)
        return (
            f"# {_inline(self.name)}\n\n"
            f"Open-vocabulary {self.task}: the classes are any names, given with the image. A model of openvocab "
            f"{self.versions.get('openvocab', '')}: {parts}.\n\n"
            f"```python\nimport openvocab\n"
            f'prediction = openvocab.load({json.dumps(self.source)})("photo.jpg", {example})\n```'
        )

    def _scores(self) -> str:
        blocks = [_table(scores) for scores in self.scores]
        return "\n\n".join(["## Scores", *(blocks or ["Not measured."])])

    def _training(self) -> str:
        lines = [f"- {key}: {_inline(str(value))}" for key, value in self.training.items()]
        if self.class_names:
            listed = ", ".join(_inline(name) for name in self.class_names[:_SHOWN_CLASSES])
            more = len(self.class_names) - _SHOWN_CLASSES
            lines.append(f"- {len(self.class_names)} classes seen: {listed}{f', and {more} more' if more > 0 else ''}")
        lines.append(f"- versions: {', '.join(f'{name} {version}' for name, version in self.versions.items())}")
        return "\n".join(["## Training", "", *lines])


def _table(scores: Scores) -> str:
    rows = [
        f"| {_inline(key)} | {with_unit(value, scores.units.get(key, ''))} |" for key, value in scores.numbers.items()
    ]
    lines = [f"By {_inline(scores.source)}:", "", "| metric | score |", "| --- | --- |", *rows]
    if scores.protocol:
        lines += ["", "Protocol:", ""]
        lines += [f"- {_inline(key)}: {_inline(_short(value))}" for key, value in scores.protocol.items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    """Return a value of a protocol as text, its lists cut to what a reader reads."""
    if isinstance(value, list) and len(value) > 10:
        return f"{', '.join(map(str, value[:10]))}, and {len(value) - 10} more"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _inline(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line: names come from files."""
    escaped = "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)
    return " ".join(escaped.split())
