"""Colours. Classes and curves: Okabe and Ito (jfly.uni-koeln.de/color, 2008); resources: the muted scheme of Paul Tol
(technote SRON/EPS/TN/09-002), so that the two are not mistaken for each other. Both serve colour-blind readers."""

from __future__ import annotations

BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
OTHER = "#8c8c86"

CLASS_COLOURS = {"gemm": BLUE, "attention": ORANGE, "elementwise": GREEN, "moe": PURPLE, "scan": SKY, "all_reduce": RED,
                 "all_gather": RED, "reduce_scatter": RED, "alltoall": RED, "send_recv": RED}
RESOURCE_COLOURS = {"compute": "#332288", "memory": "#DDCC77", "link": "#882255", "launch": OTHER, "tail": "#88CCEE"}
MEMORY_COLOURS = {"weights": BLUE, "kv": ORANGE, "activations": GREEN, "runtime": OTHER}
LINE_COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` (luminance of WCAG 2; at 0.179 both contrast alike)."""
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return "#000000" if 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 else "#ffffff"
