"""One look for every figure of the book: colours that colour-blind readers can tell apart, dashes, markers, a plane.

`style()` sets matplotlib once per notebook. `line(i)` gives the i-th line a colour, a dash and a marker of its own, so
that no figure depends on colour alone. `plane()` and `region()` draw the 2-D pictures that open the chapters.
"""

from __future__ import annotations

from html import escape

# Okabe and Ito's eight colours. Orange, sky and yellow are for areas: as lines they have less than 3:1 on white.
PALETTE = {
    "black": "#000000",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
}

DASHES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (1, 2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
ORDER = ("blue", "vermillion", "green", "purple", "black")


def style() -> None:
    """Make matplotlib draw as the book does: white paper in light and dark pages, type that a phone can show."""
    import matplotlib.pyplot as plt

    plt.rcParams.update(
        {
            "figure.figsize": (4.4, 3.1),  # 12 points of 4.4 inches are still 12 pixels on a phone
            "figure.dpi": 160,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "font.size": 12,
            "axes.titlesize": 12,
            "axes.labelsize": 12,
            "legend.fontsize": 11,
            "xtick.labelsize": 11,
            "ytick.labelsize": 11,
            "axes.prop_cycle": plt.cycler(
                color=[PALETTE[name] for name in ORDER], linestyle=list(DASHES[: len(ORDER)])
            ),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "lines.linewidth": 2.0,
            "lines.markersize": 7,
            "legend.frameon": False,
            "mathtext.fontset": "cm",
        }
    )


def line(index: int) -> dict:
    """Colour, dash and marker of series `index`; seven series can be told apart without colour."""
    return {
        "color": PALETTE[ORDER[index % len(ORDER)]],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def plane(ax, xlim: tuple[float, float], ylim: tuple[float, float]) -> None:
    """Turn `ax` into a piece of the plane: equal units, no frame, the two axes drawn thin."""
    ax.set_aspect("equal")
    ax.set_xlim(*xlim)
    ax.set_ylim(*ylim)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def region(ax, corners, label: str | None = None) -> None:
    """Fill the convex polygon with these `corners`, in order, and draw its outline."""
    ax.fill(*zip(*corners, strict=True), facecolor=PALETTE["sky"], alpha=0.35, edgecolor="none")
    ring = [*corners, corners[0]]
    ax.plot(*zip(*ring, strict=True), color=PALETTE["blue"], linestyle="-", linewidth=1.8, label=label)


def arrow(ax, start, end, color: str = "black", **kwargs) -> None:
    """Draw an arrow from `start` to `end` in the palette's `color`."""
    options = {"arrowstyle": "-|>", "mutation_scale": 15, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0}
    options.update(kwargs)
    ax.annotate("", xy=tuple(end), xytext=tuple(start), arrowprops={"color": PALETTE[color], **options})


class Table:
    """A small table for a page: HTML where there is a browser, aligned text elsewhere."""

    def __init__(self, head, rows, caption: str = ""):
        self.head, self.rows, self.caption = [str(h) for h in head], [[str(c) for c in row] for row in rows], caption
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"a row has not {len(self.head)} entries, as the head has")

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) for line in (self.head, *self.rows)]
        return "\n".join([*lines, self.caption] if self.caption else lines)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(h)}</th>' if h else "<td></td>" for h in self.head)
        body = "".join("<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        return f'<table class="table">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def table(head, rows, caption: str = "") -> Table:
    """Return a table that a notebook shows: column names, rows of cells, and a caption.

    >>> table(["rival", "cost"], [["projection", "0.03"]])
         rival  cost
    projection  0.03
    """
    return Table(head, rows, caption)
