"""The common look of the diagrams of a report, and their bytes."""

import io
import warnings

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLORS = (
    "#2a6fdb", "#e4572e", "#2e9e5b", "#8e44ad", "#e6a817", "#17a2b8", "#c2185b", "#6d4c41", "#7f8c8d", "#1f2d3d",
)  # fmt: skip
"""Of curves; told apart with the most common color blindness, too, in this order."""
INK, FAINT, GRID = "#202226", "#6b7078", "#e4e6ea"
DPI = 110
MAX_NAME = 28


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches, which belongs to no window and to no global state."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Give axes their titles, a faint grid, and no frame at the top and at the right."""
    axes.set_title(title, fontsize=12, color=INK, loc="left", parse_math=False)
    axes.set_xlabel(x_label, fontsize=10, color=INK)
    axes.set_ylabel(y_label, fontsize=10, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=FAINT, labelsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color("#b8bcc4")


def legend_beside(axes: Axes) -> None:
    """Put the legend to the right of the axes, where it covers no curve."""
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a class name is no formula


def shown_name(name: str) -> str:
    """Return a name that fits next to a diagram; matplotlib hides names that begin with an underscore."""
    name = " ".join(name.split())
    name = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return f" {name}" if name.startswith("_") else name


def png_bytes(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
        figure.savefig(file, format="png")
    return file.getvalue()
