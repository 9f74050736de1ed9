"""Prompt templates, which turn a class name into sentences."""

from collections.abc import Sequence
from importlib.resources import files

SLOT = "{}"
ARTICLE = "{article}"

SHORT_SETS: dict[str, tuple[str, ...]] = {
    "none": (SLOT,),
    "lseg": (SLOT,),
    "simple": ("a photo of a {}.",),
}
"""`none` and `lseg` are the bare name; `simple` is CLIP's default sentence (also GroupViT's for segmentation)."""

LONG_SETS = ("imagenet7", "imagenet80", "vild63")
"""Files in `template_sets/`, one template per line: CLIP's ImageNet ensembles, and 63 sentences as in ViLD."""


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Return the templates of a named set, or check a custom list.

    Args:
        templates: `none`, `lseg`, `simple`, `imagenet7`, `imagenet80`, `vild63`, or a list of sentences, each with
            exactly one `{}` for the name and optionally `{article}` for "a" or "an".

    Raises:
        ValueError: the set is unknown (the message lists the known ones), the list is empty, or a sentence does not
            have exactly one `{}`.
    """
    if isinstance(templates, str):
        return _named_set(templates)
    if not templates:
        raise ValueError("templates: expected at least one sentence with a '{}' slot, got an empty list")
    for template in templates:
        _check_template(template)
    return tuple(templates)


def fill_template(template: str, name: str) -> str:
    """Return the sentence for a class name; its article depends on the first letter."""
    article = "an" if name.strip()[:1].lower() in tuple("aeiou") else "a"
    start, end = template.replace(ARTICLE, article).split(SLOT)
    return start + name + end


def _named_set(name: str) -> tuple[str, ...]:
    if name in SHORT_SETS:
        return SHORT_SETS[name]
    if name in LONG_SETS:
        text = (files("openvocab.text") / "template_sets" / f"{name}.txt").read_text(encoding="utf-8")
        return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
    known = ", ".join(sorted([*SHORT_SETS, *LONG_SETS]))
    raise ValueError(f"unknown template set {name!r}; known: {known}; give your own sentences as a list")


def _check_template(template: str) -> None:
    if not isinstance(template, str):
        raise ValueError(f"template {template!r}: expected a string, got {type(template).__name__}")
    slots = template.count(SLOT)
    if slots != 1:
        raise ValueError(f"template {template!r}: expected exactly one {SLOT!r} for the class name, found {slots}")
    rest = template.replace(SLOT, "").replace(ARTICLE, "")
    if "{" in rest or "}" in rest:
        raise ValueError(f"template {template!r}: only the slots {SLOT!r} and {ARTICLE!r} are known")
