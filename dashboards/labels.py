"""Labels beside points, so that they hide neither points nor one another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CHARACTER = 6.6  # pixels, at 12 px
_LINE = 15
_DISTANCES = (14, 26, 40, 56, 74, 94)
_DIRECTIONS = 16


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, by its centre."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: "Box") -> float:
        """Measure the area that two rectangles have in common.

        Args:
            other: the other rectangle.

        Returns:
            Square pixels.
        """
        across = (self.width + other.width) / 2 - abs(self.x - other.x)
        down = (self.height + other.height) / 2 - abs(self.y - other.y)
        return max(min(across, self.width, other.width), 0) * max(
            min(down, self.height, other.height), 0
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    width: float,
    height: float,
) -> list[tuple[float, float]]:
    """Find a place for each label near its point.

    One after the other, from the most crowded point on, each label takes the nearest
    of many places around its point that costs the least overlap.

    Args:
        points: in pixels, from the left and from the top.
        texts: the labels.
        width: of the figure, in pixels.
        height: of the figure, in pixels.

    Returns:
        For each label, pixels from its point to its centre, to the right and down.
    """
    taken = [Box(x, y, 14, 14) for x, y in points]
    offsets: dict[int, tuple[float, float]] = {}
    for index in sorted(range(len(points)), key=lambda i: -_crowd(points, i)):
        x, y = points[index]
        size = (_CHARACTER * len(texts[index]) + 4, _LINE)
        best = min(
            _candidates(size),
            key=lambda offset: _penalty(
                Box(x + offset[0], y + offset[1], *size), offset, taken, width, height
            ),
        )
        offsets[index] = best
        taken.append(Box(x + best[0], y + best[1], *size))
    return [offsets[index] for index in range(len(points))]


def _candidates(size: tuple[float, float]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for distance in _DISTANCES:
        for turn in range(_DIRECTIONS):
            angle = 2 * math.pi * turn / _DIRECTIONS
            across, down = math.cos(angle), math.sin(angle)
            # The nearest edge of the label, not its centre, is at this distance.
            found.append(
                (
                    across * (distance + size[0] / 2 * abs(across)),
                    down * (distance + size[1] / 2 * abs(down)),
                )
            )
    return found


def _crowd(points: Sequence[tuple[float, float]], index: int) -> float:
    return sum(1 / (1 + math.dist(points[index], other)) for other in points)


def _penalty(
    box: Box,
    offset: tuple[float, float],
    taken: Sequence[Box],
    width: float,
    height: float,
) -> float:
    outside = box.width * box.height - box.overlap(
        Box(width / 2, height / 2, width, height)
    )
    covered = sum(box.overlap(other) for other in taken)
    return 10 * covered + 20 * outside + math.hypot(*offset)
