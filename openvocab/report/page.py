"""The report of a run as one page that needs no other file: `report.html`."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #202226; background: #f4f5f7;
  margin: 0 auto; max-width: 1240px; padding: 24px; }
header, section { background: #fff; border: 1px solid #e4e6ea; border-radius: 10px; padding: 20px 24px;
  margin: 0 0 18px; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 12px; }
p { margin: 0 0 10px; }
.faint { color: #6b7078; }
.cards { display: flex; flex-wrap: wrap; gap: 14px; margin-top: 16px; }
.card { border: 1px solid #e4e6ea; border-radius: 8px; padding: 10px 16px; min-width: 130px; }
.card b { display: block; font-size: 21px; }
.card span { color: #6b7078; font-size: 13px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto 12px; }
.scroll { max-height: 560px; overflow: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; text-align: left; border-bottom: 1px solid #eceef1; vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 600; position: sticky; top: 0; background: #fff; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
pre { background: #f4f5f7; border-radius: 6px; padding: 12px 14px; margin: 0 0 10px; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
@media print { body { background: #fff; } .scroll { max-height: none; } }
"""


@dataclass(frozen=True)
class ReportContent:
    """What the page shows, as plain text and bytes; parts that are empty are left out."""

    title: str
    status: str
    """One sentence: finished, stopped or still running, and since when."""
    cards: Sequence[tuple[str, str]] = ()
    """(value, what it is), the most important numbers."""
    scores: Sequence[Mapping[str, Any]] = ()
    """One row per score."""
    pictures: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """{heading: PNG or JPEG files}."""
    class_rows: Sequence[Mapping[str, Any]] = ()
    class_note: str = ""
    """Which validations the rows are of."""
    commands: Sequence[tuple[str, str]] = ()
    """(what it does, command)."""
    facts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """{heading: {name: value}}, such as the essentials of the config and the environment."""


def report_page(content: ReportContent) -> str:
    """Return the page as HTML without scripts, links and files of its own; all text is escaped."""
    cards = "".join(
        f'<div class="card"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in content.cards
    )
    parts = [
        f'<header><h1>{escape(content.title)}</h1><p class="faint">{escape(content.status)}</p>'
        f'<div class="cards">{cards}</div></header>'
    ]
    if content.commands:
        steps = "".join(f"<p>To {escape(what)}:</p><pre>{escape(command)}</pre>" for what, command in content.commands)
        parts.append(_section("What to type next", steps))
    if content.scores:
        parts.append(_section("Scores", _table(content.scores)))
    parts += [_section(heading, _images(heading, files)) for heading, files in content.pictures.items() if files]
    if content.class_rows:
        note = f'<p class="faint">{escape(content.class_note)}</p>'
        parts.append(_section("Classes", f'{note}<div class="scroll">{_table(content.class_rows)}</div>'))
    for heading, facts in content.facts.items():
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
        parts.append(_section(heading, f"<table>{rows}</table>"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(heading: str, body: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{body}</section>"


def _images(heading: str, files: Sequence[bytes]) -> str:
    return "".join(
        f'<img alt="{escape(heading)}" src="data:image/{_kind(file)};base64,{base64.b64encode(file).decode("ascii")}">'
        for file in files
    )


def _kind(file: bytes) -> str:
    return "png" if file.startswith(b"\x89PNG") else "jpeg"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of rows with equal columns; columns of numbers are aligned at the right."""
    columns = [name for name in rows[0] if any(row.get(name) is not None for row in rows)]
    kinds = {name: ' class="number"' if all(_is_number(row.get(name)) for row in rows) else "" for name in columns}
    head = "".join(f"<th{kinds[name]}>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td{kinds[name]}>{escape(_cell(row.get(name)))}</td>" for name in columns) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
