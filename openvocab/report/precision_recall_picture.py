"""Precision over recall of a detector: `precision_recall.png`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from openvocab.metrics.precision_recall import FEW_CURVES, CurveSummary
from openvocab.report.figure import COLORS, INK, legend_beside, new_figure, png_bytes, shown_name, style_axes

GROUP_STYLES = {"all": ("-", 3.0), "base": ("--", 2.0), "novel": (":", 2.4)}


def draw_precision_recall(summaries: Sequence[CurveSummary]) -> bytes | None:
    """Draw one panel per evaluation, as a PNG file; None if no class has objects."""
    summaries = [summary for summary in summaries if summary.num_classes]
    if not summaries:
        return None
    figure = new_figure(10, 4.6 * len(summaries))
    grid = figure.subplots(len(summaries), 1, squeeze=False)
    for axes, summary in zip(grid[:, 0], summaries):
        _draw_panel(axes, summary)
    return png_bytes(figure)


def _draw_panel(axes: Axes, summary: CurveSummary) -> None:
    style_axes(axes, f"{summary.title}, {summary.num_classes} classes with objects", "recall", "precision")
    recalls = summary.recalls
    if summary.spread is not None:
        lower, upper = summary.spread
        axes.fill_between(recalls, lower, upper, color="#dfe3ea", linewidth=0, label="half of the classes")
    for name, curve in summary.means.items():
        line, width = GROUP_STYLES.get(name, ("-", 2.0))
        label = "all classes" if name == "all" else f"{name} classes"
        axes.plot(recalls, curve, line, color=INK, linewidth=width, zorder=4, label=f"{label}, AP50 {_percent(curve)}")
    for color, (name, curve) in zip(COLORS, summary.classes.items()):
        axes.plot(recalls, curve, color=color, linewidth=1.3, zorder=5, label=f"{shown_name(name)}, {_percent(curve)}")
    if summary.num_classes > FEW_CURVES:
        axes.plot([], [], " ", label=f"colors: the {FEW_CURVES // 2} best and the {FEW_CURVES // 2} worst classes")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    legend_beside(axes)


def _percent(curve: Sequence[float]) -> str:
    return f"{100 * float(np.mean(curve)):.1f} %"
