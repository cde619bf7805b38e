"""The leaderboard as a table."""

from collections.abc import Callable, Mapping
from html import escape

from dashboards.frame import Row, Rows
from dashboards.palette import title
from dashboards.text import DASH, duration, glyph, percent, quantity

_HEAD = (
    '<th class="text">method</th><th>models</th><th class="text">chosen options</th>'
    "<th>held-in</th><th>generalization</th><th>normalized</th><th>average<br>rank</th>"
    "<th>merge<br>FLOPs</th><th>statistics<br>FLOPs</th><th>amortized<br>time</th>"
    "<th>recipes<br>tried</th>"
)


def board(rows: Rows, address: Callable[[str], str] | None = None) -> str:
    """Write the leaderboard: merges, then those with a model per task, then references.

    Args:
        rows: of the question `leaderboard`, best first.
        address: gives the address of a cell's own page, if cells have pages.

    Returns:
        HTML; the best merge in each kind of accuracy is bold.
    """
    merged = [row for row in rows if row["kind"] == "merged"]
    others = [row for row in rows if row["kind"] == "per_task"]
    others += [row for row in rows if row["kind"] == "reference"]
    best = {
        column: max(
            (row[column] for row in merged if row[column] is not None), default=None
        )
        for column in ("held_in", "generalization", "normalized")
    }
    lines = [_line(row, best, "", address) for row in merged]
    last = "merged"
    for row in others:
        first = "first-reference" if row["kind"] != last else ""
        lines.append(_line(row, {}, f"reference {first}".strip(), address))
        last = row["kind"]
    return (
        '<div class="scroll"><table class="leaderboard">'
        f"<thead><tr>{_HEAD}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(
    row: Row,
    best: Mapping[str, float | None],
    kind: str,
    address: Callable[[str], str] | None,
) -> str:
    was_tuned = row["kind"] != "reference"
    rank = DASH if row["average_rank"] is None else f"{row['average_rank']:.1f}"
    name = escape(title(row["method"]))
    if address is not None and row["seeds"] == 1 and row["kind"] != "reference":
        name = f'<a href="{escape(address(row["cell"]))}" target="_self">{name}</a>'
    return (
        f'<tr class="{kind}"><td class="text">{glyph(row["method"])}{name}</td>'
        f'<td>{row["models"]}</td><td class="text">{escape(row["options"] or "")}</td>'
        f"{_accuracy(row, 'held_in', best)}"
        f"{_accuracy(row, 'generalization', best)}"
        f"{_accuracy(row, 'normalized', best)}"
        f"<td>{rank}</td><td>{quantity(row['merge_flops'])}</td>"
        f"<td>{quantity(row['statistics_flops'] or None)}</td>"
        f"<td>{duration(row['amortized_seconds'])}</td>"
        f"<td>{row['recipes_tried'] if was_tuned else DASH}</td></tr>"
    )


def _accuracy(row: Row, column: str, best: Mapping[str, float | None]) -> str:
    is_best = row[column] is not None and row[column] == best.get(column)
    text = percent(row[column], row.get(f"{column}_se"))
    return f'<td class="best">{text}</td>' if is_best else f"<td>{text}</td>"
