"""Draw which room of the package imports which, floor by floor: docs/images/rooms.png.

python tools/draw_rooms.py [--package DIR] [--out FILE]

A room is a package, or a module beside the packages; a package within one is a room of its own. `FLOORS` says which
stands where: a room imports from the floors below it alone, which `tests/test_rooms.py` checks.
"""

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
FLOORS = (
    ("former_names",),
    ("argument_checks", "files", "finite_guard", "lazy_names", "process", "progress", "registry", "seeding", "version"),
    ("checkpoint", "config", "vocabulary", "datasets.shapes", "clip.model_configs"),
    ("clip", "structures"),
    ("images", "layers", "ops", "metrics", "converters", "pixel_batch"),
    ("backbones.readouts", "text", "detection", "losses", "logit_map", "preprocessor", "metrics.detection",
     "datasets.files"),
    ("backbones", "heads.terms", "inference", "postprocess", "datasets.annotations", "datasets.shards",
     "datasets.transforms"),
    ("heads", "datasets"),
    ("model",),
    ("predictor", "evaluation", "engine"),
    ("retrieval", "drawing", "teacher", "command_line"),
    ("engine.hooks", "openvocab"),
)  # fmt: skip
"""From the ground up; "openvocab" is the package's own front door."""


def imports_between_rooms(package: Path) -> dict[str, dict[str, list[str]]]:
    """Return {room: {room that it imports from: ["module imports module", ...]}} of a package's folder."""
    files = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    found: dict[str, dict[str, list[str]]] = {_room(module, package): {} for module in files}
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported(node):
                target = _module_of(name, files)
                room, other = _room(module, package), _room(target, package) if target else None
                if other not in (None, room):
                    found[room].setdefault(other, []).append(f"{module} imports {target}")
    return found


def knots(imports: Mapping[str, Mapping[str, object]]) -> list[set[str]]:
    """Return the sets of rooms each of which reaches every other one of its set."""
    reached = {room: _reached_from(room, imports) for room in imports}
    found = [{other for other in reached[room] if room in reached[other]} for room in imports]
    return [knot for index, knot in enumerate(found) if len(knot) > 1 and knot not in found[:index]]


def _reached_from(room: str, imports: Mapping[str, Mapping[str, object]]) -> set[str]:
    reached, waiting = set(), [room]
    while waiting:
        for other in imports[waiting.pop()]:
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def _dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str, package: Path) -> str:
    """Return the room of a module, below the package: "heads.terms", "model"; the package itself by its name."""
    folder = package.parent.joinpath(*module.split("."))
    home = module if folder.is_dir() else module.rpartition(".")[0]
    return (module if home == package.name else home).removeprefix(f"{package.name}.")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _module_of(name: str, files: Mapping[str, Path]) -> str | None:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def floors_of(imports: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Return the rooms floor by floor, each as low as what it imports allows; those of a knot share a floor."""
    home = {room: frozenset([room]) for room in imports}
    for knot in knots(imports):
        home |= {room: frozenset(knot) for room in knot}
    heights: dict[frozenset[str], int] = {}

    def height(group: frozenset[str]) -> int:
        if group not in heights:
            below = {home[other] for room in group for other in imports[room]} - {group}
            heights[group] = max((height(other) + 1 for other in below), default=0)
        return heights[group]

    levels = {room: height(home[room]) for room in imports}
    return [[room for room in imports if levels[room] == level] for level in range(max(levels.values()) + 1)]


def draw(imports: Mapping[str, Mapping[str, object]], floors: list[list[str]], path: Path) -> None:
    """Write a picture of the floors; an arrow for what a room imports unless another way leads there, knots in red."""
    from PIL import Image, ImageDraw

    from openvocab.drawing.legend import font

    scale, gap, tall, step = 2, 14, 30, 64
    text = font(13 * scale)
    tangled = set().union(*knots(imports))
    boxes: dict[str, tuple[float, float, float, float]] = {}
    rows: list[tuple[int, list[str]]] = []
    for level, floor in enumerate(floors):  # a knot is wider than a page
        rows += [(level, floor[start : start + 10]) for start in range(0, len(floor), 10)]
    width = 40 + max(sum(text.getlength(room) / scale + 20 + gap for room in row) for _, row in rows)
    for index, (_, row) in enumerate(rows):
        widths = [text.getlength(room) / scale + 20 for room in row]
        left, top = (width - sum(widths) - gap * (len(row) - 1)) / 2, 20 + (len(rows) - 1 - index) * step
        for room, wide in zip(row, widths):
            boxes[room] = (left, top, left + wide, top + tall)
            left += wide + gap
    image = Image.new("RGB", (int(width * scale), int((len(rows) * step + 10) * scale)), "white")
    pen = ImageDraw.Draw(image)
    for room, others in imports.items():
        for other in others:
            red = room in tangled and other in tangled
            if not red and any(other in _reached_from(third, imports) for third in others if third != other):
                continue
            ends = [(boxes[end][0] + boxes[end][2], boxes[end][1] + boxes[end][3]) for end in (room, other)]
            ends = [(x * scale / 2, y * scale / 2) for x, y in ends]
            pen.line(ends, fill=(214, 60, 50) if red else (150, 165, 185), width=scale + 1)
    for room, box in boxes.items():
        fill = (255, 228, 224) if room in tangled else (232, 240, 250)
        pen.rounded_rectangle([side * scale for side in box], 6 * scale, fill, (60, 80, 110), scale)
        pen.text(((box[0] + 10) * scale, (box[1] + 6) * scale), room, (20, 30, 50), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(32).save(path)


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=REPOSITORY / "openvocab", help="folder of the package")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images" / "rooms.png", help="the picture")
    arguments = parser.parse_args()
    imports = imports_between_rooms(arguments.package.resolve())
    named = {room for floor in FLOORS for room in floor}
    draw(imports, [list(floor) for floor in FLOORS] if named == set(imports) else floors_of(imports), arguments.out)
    print(f"{len(imports)} rooms, {len(knots(imports))} knots: {arguments.out}")


if __name__ == "__main__":
    main()
