"""Write docs/towers.md: every CLIP tower that open_clip publishes, with what can be done with it.

python tools/list_towers.py [--out FILE]
"""

import argparse
from pathlib import Path

from openvocab.backbones.readouts import AttentionReadout, known_readouts
from openvocab.backbones.tower_facts import TowerFacts, allows_commercial_use, published_towers, tower_facts
from openvocab.files.atomic_files import replacing
from openvocab.progress import Progress
from openvocab.registry import READOUTS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "towers.md"
HEAD = """# Towers

Every architecture for which open_clip lists weights, as `CLIPBackbone(model=MODEL, pretrained=TAG)` and
`CLIPTextEncoder(model=MODEL, pretrained=TAG)`. Made by `python tools/list_towers.py`; nothing is downloaded for it.

- **size**: side of the images of the training in pixels. Any size that the stride divides runs; learned positions are
  resampled, rotary ones computed.
- **width, D**: channels of the last map and of the joint space. **parameters**: millions, image + text.
- **readouts**: how the dense map is computed, see `openvocab/backbones/readouts`. "all" are {all}; "attention" are
  those that change the last attention alone: {attention}. `rfclip` needs `sink_channels=` for other weights than
  OpenAI's, and is listed where these are known. ConvNeXt and FastViT have no attention.
- **tokenizer**: a tokenizer that is not CLIP's own comes from this repository of Hugging Face's hub, and needs
  `pip install 'openvocab[hf]'`; without a network, pass a local copy of its files as `text_folder=`.
- **license**: of the weights, as their publishers state it; for some, read it before commercial use (*).

"""
COLUMNS = ("model", "tags", "license", "size", "stride", "width, D", "readouts", "parameters", "tokenizer")


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DOCS, help=f"default: {DOCS.name} in docs")
    out = parser.parse_args().out
    models = published_towers()
    rows, progress = [], Progress()
    for done, model in enumerate(models):
        progress(done, len(models))
        rows += _rows(tower_facts(model))
    progress(len(models), len(models))
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}", *rows]
    head = HEAD.format(all=", ".join(f"`{name}`" for name in known_readouts()), attention=_listed(ATTENTION))
    with replacing(out) as file:
        file.write(head + "\n".join(lines) + "\n")
    print(f"{out}: {len(models)} architectures")


ATTENTION = tuple(name for name in known_readouts() if issubclass(READOUTS.get(name), AttentionReadout))
"""Readouts that only change the last attention."""


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _rows(facts: TowerFacts) -> list[str]:
    """Return one row per license."""
    rows = []
    for license_name, tags in facts.licenses.items():
        text = "?" if facts.text_parameters is None else f"{facts.text_parameters / 1e6:.0f}"
        cells = (
            f"`{facts.model}`",
            ", ".join(tags),
            license_name + ("" if allows_commercial_use(license_name) else " *"),
            str(facts.image_size),
            str(facts.stride),
            f"{facts.width}, {facts.embed_dim}",
            _readouts(facts.readouts),
            f"{facts.image_parameters / 1e6:.0f} + {text}",
            facts.tokenizer or "",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _readouts(names: tuple[str, ...]) -> str:
    if names == known_readouts():
        return "all"
    if names == ATTENTION:
        return "attention"
    without = [name for name in known_readouts() if name not in names]
    return f"all but {_listed(tuple(without))}" if len(without) < len(names) else _listed(names)


if __name__ == "__main__":
    main()
