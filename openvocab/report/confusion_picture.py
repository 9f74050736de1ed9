"""Which classes are mistaken for which: `confusion_matrix.png`."""

import numpy as np
from matplotlib.axes import Axes

from openvocab.metrics.class_confusion import ClassConfusion
from openvocab.report.figure import FAINT, INK, new_figure, png_bytes, shown_name

NUMBERED = 24
"""Up to this number of classes, the cells show their percentages."""


def draw_confusion(confusion: ClassConfusion, title: str) -> bytes | None:
    """Draw the shares of the predictions of every label, as a PNG file; None if no class is labeled or predicted."""
    size = len(confusion.class_names)
    if not size:
        return None
    labeled = confusion.counts.sum(axis=1, keepdims=True)
    shares = np.divide(100 * confusion.counts, labeled, out=np.full(confusion.counts.shape, np.nan), where=labeled > 0)
    cell = 0.42 if size <= NUMBERED else 0.27
    side = max(3.2, cell * size)
    figure = new_figure(side + 3.6, side + 2.4)
    axes = figure.subplots()
    axes.set_facecolor("#f0f0f0")  # of labels that do not occur
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    names = [shown_name(name) for name in confusion.class_names]
    small = 9 if size <= NUMBERED else 8
    axes.set_xticks(range(size), names, rotation=90, fontsize=small, parse_math=False)
    axes.set_yticks(range(size), names, fontsize=small, parse_math=False)
    axes.tick_params(length=0, colors=INK)
    axes.set_xlabel("predicted", fontsize=10, color=INK)
    axes.set_ylabel("labeled", fontsize=10, color=INK)
    axes.set_title(title, fontsize=12, color=INK, loc="left", parse_math=False, wrap=True)
    axes.set_xticks(np.arange(-0.5, size), minor=True)
    axes.set_yticks(np.arange(-0.5, size), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if size <= NUMBERED:
        _write_numbers(axes, shares)
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.0 / side + 0.3), aspect=25)
    bar.set_label(f"% of the {confusion.counted} with this label", fontsize=9, color=FAINT)
    bar.outline.set_visible(False)
    return png_bytes(figure)


def _write_numbers(axes: Axes, shares: np.ndarray) -> None:
    """Write the percentages (K, K) that do not round to 0 into their cells."""
    for row, column in zip(*np.nonzero(np.nan_to_num(shares).round())):
        share = shares[row, column]
        color = "white" if share > 55 else INK
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=color)
