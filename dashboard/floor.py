"""The floor plan as a picture: what the robot has swept by its own estimate, what it has not, and where it is."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import groupby

from devices.home.plan import ROBOT_RADIUS_M
from devices.home.types import FloorPlan

Point = tuple[float, float]

SWEEP_M = 0.18  # the main brush; the side brush reaches further, on one side
_TOLERANCE_M = 0.01
_PX = 100  # a metre
_FONT_PX = 24  # of a room's name, smaller where the plan is: an eighteenth of its width
_COLOURS = {"wall": "#4d5560", "furniture": "#9a8f80", "drop": "#c4472b", "dock": "#2f3640"}
_HARD, _CARPET, _SWEPT, _ROBOT = "#e4dccb", "#d2c2ad", "#2b9db0", "#14323a"
_KINDS = {"#": "wall", "%": "furniture", "!": "drop", "@": "dock"}


def picture(plan: FloorPlan, path: Sequence[Point], pose: tuple[float, float, float] | None) -> str:
    """An SVG of the plan; `path` (m) is what the robot believes to have driven, `pose` (m, m, rad) where it is."""
    width, height = len(plan.rows[0]) * plan.cell_m, len(plan.rows) * plan.cell_m
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * _PX:.0f} {height * _PX:.0f}" '
        f'width="{width * _PX:.0f}" height="{height * _PX:.0f}" font-family="sans-serif">'
    ]
    parts += [_floor(plan)]
    line = simplified(path)
    if len(line) > 1:
        points = " ".join(f"{x * _PX:.0f},{(height - y) * _PX:.0f}" for x, y in line)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{_SWEPT}" stroke-opacity="0.75" '
            f'stroke-width="{SWEEP_M * _PX:.0f}" stroke-linecap="round" stroke-linejoin="round"/>'
        )
    parts.append(_things(plan))
    if pose is not None:
        x, y, ahead = pose
        cx, cy, r = x * _PX, (height - y) * _PX, ROBOT_RADIUS_M * _PX
        tip_x, tip_y = cx + r * math.cos(ahead), cy - r * math.sin(ahead)
        parts.append(
            f'<circle cx="{cx:.0f}" cy="{cy:.0f}" r="{r:.0f}" fill="{_ROBOT}" stroke="white" stroke-width="3"/>'
            f'<line x1="{cx:.0f}" y1="{cy:.0f}" x2="{tip_x:.0f}" y2="{tip_y:.0f}" '
            'stroke="white" stroke-width="4"/>'
        )
    return "".join([*parts, "</svg>"])


def simplified(path: Sequence[Point]) -> list[Point]:
    """The path without the points that lie within a centimetre of the straight line between the ones that are kept."""
    if len(path) < 3:
        return list(path)
    kept, begin = [path[0]], 0
    for i in range(2, len(path)):
        if any(_off(path[j], path[begin], path[i]) > _TOLERANCE_M for j in range(max(begin + 1, i - 8), i)):
            begin = i - 1
            kept.append(path[begin])
    return [*kept, path[-1]]


def _off(p: Point, a: Point, b: Point) -> float:
    """Distance of p from the segment a to b, m."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    long = dx * dx + dy * dy
    t = 0.0 if long == 0 else min(max(((p[0] - a[0]) * dx + (p[1] - a[1]) * dy) / long, 0.0), 1.0)
    return math.hypot(p[0] - a[0] - t * dx, p[1] - a[1] - t * dy)


def _floor(plan: FloorPlan) -> str:
    return _runs(plan, lambda c: (_CARPET if c.isupper() else _HARD) if c.isalpha() else None)


def _things(plan: FloorPlan) -> str:
    """What lies over the floor and the path, and the rooms' names."""
    names = []
    font = min(_FONT_PX, len(plan.rows[0]) * plan.cell_m * _PX / 18)
    for letter, name in plan.rooms.items():
        cells = [(x, y) for y, row in enumerate(plan.rows) for x, c in enumerate(row) if c.lower() == letter]
        if cells:
            x, y = (sum(c[i] for c in cells) / len(cells) + 0.5 for i in (0, 1))
            side = plan.cell_m * _PX
            words = escape(name.replace("_", " "))
            names.append(
                f'<text x="{x * side:.0f}" y="{y * side:.0f}" font-size="{font:.0f}" text-anchor="middle" '
                f'fill="#1d2a30" stroke="#f6f2ea" stroke-width="{font / 5:.1f}" paint-order="stroke">{words}</text>'
            )
    return _runs(plan, lambda c: _COLOURS.get(_KINDS.get(c, ""))) + "".join(names)


def _runs(plan: FloorPlan, colour: Callable[[str], str | None]) -> str:
    """A rectangle for each run of equal cells of a row."""
    side, out = plan.cell_m * _PX, []
    for y, row in enumerate(plan.rows):
        x = 0
        for fill, cells in groupby(row, colour):
            long = len(list(cells))
            if fill:
                out.append(
                    f'<rect x="{x * side:.1f}" y="{y * side:.1f}" width="{long * side + 0.5:.1f}" '
                    f'height="{side + 0.5:.1f}" fill="{fill}"/>'
                )
            x += long
    return "".join(out)
