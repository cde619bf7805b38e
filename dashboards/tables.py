"""Tables for people, as HTML, that the report and the app have in common."""

import json
from collections.abc import Mapping, Sequence
from html import escape

from dashboards.frame import Row, Rows
from dashboards.palette import ROLES, stage_title, title
from dashboards.text import DASH, duration, glyph, percent, quantity


def prerequisites_table(rows: Rows) -> str:
    """Write what the shared steps cost, and how many merges shared them.

    Args:
        rows: of the question `prerequisites`.

    Returns:
        HTML.
    """
    return numbers_table(
        (
            "step",
            "steps",
            "time",
            "FLOPs",
            "examples seen",
            "stored",
            "merges that<br>needed it",
        ),
        [
            (
                escape(stage_title(row["stage"])),
                str(row["steps"]),
                duration(row["seconds"]),
                quantity(row["flops"] or None),
                quantity(row["examples"] or None),
                quantity(row["bytes"], "B"),
                str(row["cells"]),
            )
            for row in rows
        ],
        texts=1,
    )


def costs_table(rows: Rows) -> str:
    """Write what one cell cost, stage by stage.

    Args:
        rows: of the question `cell_costs`.

    Returns:
        HTML.
    """
    return numbers_table(
        ("stage", "steps", "own time", "amortized time", "unshared time", "FLOPs"),
        [
            (
                escape(stage_title(row["stage"])),
                str(row["steps"]),
                duration(row["own_seconds"] or None),
                duration(row["amortized_seconds"]),
                duration(row["unshared_seconds"]),
                quantity(row["unshared_flops"] or None),
            )
            for row in rows
        ],
        texts=1,
    )


def lineage_table(rows: Rows) -> str:
    """Write what one cell was made from.

    Args:
        rows: of the question `lineage`.

    Returns:
        HTML.
    """
    return numbers_table(
        ("stage", "task", "key", "time", "stored", "others that<br>need it", "made"),
        [
            (
                escape(stage_title(row["stage"] or "")),
                escape(row["task"] or ""),
                f"<code>{escape(row['step'])}</code>",
                duration(row["seconds"]),
                quantity(row["bytes"], "B"),
                str(row["others"]),
                escape((row["made_at"] or "")[:19].replace("T", " ")),
            )
            for row in rows
        ],
        texts=3,
    )


def paper_table(rows: Rows) -> str:
    """Write a paper's numbers beside ours, method by method.

    Args:
        rows: of the question `paper_numbers`.

    Returns:
        HTML.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row["role"]): row for row in rows}
    return numbers_table(
        (
            "method",
            "held-in, %<br>paper",
            "held-in, %<br>ours",
            "generalization, %<br>paper",
            "generalization, %<br>ours",
        ),
        [
            (
                f"{glyph(method)}{escape(title(method))}",
                *(
                    _points(cells.get((method, role)), column)
                    for role in ROLES
                    for column in ("paper_accuracy", "accuracy")
                ),
            )
            for method in methods
        ],
        texts=1,
    )


def useless_weights_table(rows: Rows) -> str:
    """Write what consensus merging gains by removing useless entries.

    Args:
        rows: of the question `useless_weights`.

    Returns:
        HTML: accuracy in percent with the normalized one in parentheses, a column for
        each number of experts, as in Tables 4 and 5 of Wang et al., 2024.
    """
    sizes = sorted({row["size"] for row in rows})
    lines: list[tuple[str, ...]] = []
    for merge_by in dict.fromkeys(row["merge_by"] for row in rows):
        own = {
            (row["agreement"], row["size"]): row
            for row in rows
            if row["merge_by"] == merge_by
        }
        kept = {row["size"]: row for row in own.values()}
        name = f"{glyph(merge_by)}{escape(title(merge_by))}"
        unpruned = (_kept(kept.get(size), "unpruned_") for size in sizes)
        lines.append((name, *unpruned))
        for threshold in sorted({agreement for agreement, _ in own}):
            pruned = (_kept(own.get((threshold, size)), "") for size in sizes)
            lines.append((f"&emsp;consensus, k = {threshold}", *pruned))
    heads = (f"{size} experts" for size in sizes)
    return numbers_table(("method", *heads), lines, texts=1)


def provenance_facts(facts: Row) -> dict[str, str]:
    """Say which code and machines made the numbers.

    Args:
        facts: the row of the question `provenance`.

    Returns:
        What to what.
    """
    versions = json.loads(facts["versions"] or "{}")
    changed = ", with changes that are not in it" if facts["git_dirty"] else ""
    return {
        "definition": facts["definition"],
        "recorded": facts["recorded_at"],
        "commit": f"{facts['git_commit'] or 'none: it was installed'}{changed}",
        "steps made by": facts["commits"] or "no commit",
        "machines": facts["devices"] or "unknown",
        "packages": ", ".join(f"{name} {v}" for name, v in versions.items()),
    }


def facts_table(facts: Mapping[str, object]) -> str:
    """Write facts, one a line.

    Args:
        facts: what to what.

    Returns:
        HTML.
    """
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f'<div class="scroll"><table class="plain">{body}</table></div>'


def numbers_table(
    head: Sequence[str], lines: Sequence[Sequence[str]], *, texts: int
) -> str:
    """Write a table of texts and numbers.

    Args:
        head: names of the columns, in HTML.
        lines: the cells, in HTML.
        texts: how many columns from the left hold texts.

    Returns:
        HTML.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = (
            f"<{tag}{' class=text' if index < texts else ''}>{cell}</{tag}>"
            for index, cell in enumerate(cells)
        )
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", cells) for cells in lines)
    return (
        f'<div class="scroll"><table><thead>{line("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _points(row: Row | None, column: str) -> str:
    return DASH if row is None or row[column] is None else f"{row[column]:.1f}"


def _kept(row: Row | None, prefix: str) -> str:
    if row is None or row[f"{prefix}held_in"] is None:
        return DASH
    normalized = row[f"{prefix}normalized"]
    beside = "" if normalized is None else f" ({percent(normalized)})"
    return f"{percent(row[f'{prefix}held_in'])}{beside}"
