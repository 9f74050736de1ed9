"""The losses and scores of a run over its iterations: `curves.png`."""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from openvocab.metrics.units import with_unit
from openvocab.report.figure import COLORS, INK, legend_beside, new_figure, png_bytes, shown_name, style_axes
from openvocab.report.run_record import RunRecord

MAX_CURVES = 9
"""Of one panel, so that each has a color of its own."""
LOG_RATIO = 20
"""Losses that fall by more than this factor are drawn on a logarithmic axis."""
FEW_POINTS = 40
"""Curves with up to this many points show them."""


def draw_curves(record: RunRecord) -> bytes | None:
    """Draw losses, scores (one panel per unit) and learning rates, as a PNG file; None if nothing was logged."""
    panels = _panels(record)
    if not panels:
        return None
    figure = new_figure(11, 0.5 + 3.0 * len(panels))
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
    for axes, (title, y_label, names) in zip(grid[:, 0], panels):
        style_axes(axes, title, "", y_label)
        for color, name in zip(COLORS, names[:MAX_CURVES]):
            _draw_series(axes, record, name, color)
        if len(names) > MAX_CURVES:
            axes.plot([], [], " ", label=f"{len(names) - MAX_CURVES} more in results.csv")
        legend_beside(axes)
    _mark_best(record, grid[:, 0], panels)
    grid[-1, 0].set_xlabel("iteration", fontsize=10, color=INK)
    grid[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return png_bytes(figure)


def _panels(record: RunRecord) -> list[tuple[str, str, list[str]]]:
    """Return title, label of the y axis and numbers of each panel that has any."""
    names = [name for name in record.columns() if record.series(name)[1]]
    losses = [name for name in names if name.startswith("loss")]
    if len(losses) == 2 and record.series(losses[0]) == record.series(losses[1]):
        losses = ["loss"]  # its only term would hide it
    panels = [("Training loss", "loss", sorted(losses, key=lambda name: name != "loss"))]
    scores = sorted((name for name in record.scores if name in names), key=lambda name: name != record.best_key)
    for unit in dict.fromkeys(record.units.get(name, "") for name in scores):
        same = [name for name in scores if record.units.get(name, "") == unit]
        panels.append(("Validation", f"score in {unit}" if unit else "score", same))
    panels.append(("Learning rate", "rate", [name for name in names if name == "lr" or name.startswith("lr/")]))
    return [panel for panel in panels if panel[2]]


def _draw_series(axes: Axes, record: RunRecord, name: str, color: str) -> None:
    iterations, values = record.series(name)
    is_main = name in ("loss", record.best_key)
    marker = "o" if len(values) <= FEW_POINTS else ""
    axes.plot(
        iterations, values, color=color, linewidth=2.2 if is_main else 1.4, marker=marker, markersize=3.5,
        zorder=3 if is_main else 2, label=shown_name(name),
    )  # fmt: skip
    if name == "loss" and min(values) > 0 and max(values) / min(values) > LOG_RATIO:
        axes.set_yscale("log")


def _mark_best(record: RunRecord, rows: Iterable[Axes], panels: list[tuple[str, str, list[str]]]) -> None:
    """Mark the best score with a star, and state it in the title of its panel."""
    best = record.best_score()
    for axes, (title, _, names) in zip(rows, panels):
        if best is not None and record.best_key in names:
            score = with_unit(best[0], record.units.get(str(record.best_key), ""))
            axes.plot([best[1]], [best[0]], marker="*", markersize=14, color="#e6a817", markeredgecolor="white",
                      linestyle="", zorder=4, label="best")  # fmt: skip
            axes.set_title(
                f"{title}: best {record.best_key} {score} at iteration {best[1]}",
                fontsize=12, color=INK, loc="left", parse_math=False,
            )  # fmt: skip
            legend_beside(axes)
