"""What an experiment says, in sentences that its numbers bear out."""

from collections.abc import Mapping

from dashboards.figures import correlation
from dashboards.frame import Row, Rows
from dashboards.palette import title
from dashboards.text import duration, quantity

_REFERENCES = {
    "pretrained": "pretrained model",
    "multitask": "multitask model",
    "individual": "individual experts",
}


def findings(answers: Mapping[str, Rows]) -> list[str]:
    """Sum the answers up.

    Args:
        answers: question to its rows.

    Returns:
        Sentences; those that the rows are too few for are left out.
    """
    board = answers["leaderboard"]
    merged = [row for row in board if row["kind"] == "merged"]
    if not merged:
        return []
    references = {row["method"]: row for row in board if row["kind"] != "merged"}
    found = [_best(merged, references, "held_in", "held-in tasks")]
    if any(row["generalization"] is not None for row in merged):
        generalizing = [row for row in merged if row["generalization"] is not None]
        found.append(
            _best(generalizing, references, "generalization", "generalization tasks")
        )
    found += _relation(answers["held_in_vs_generalization"])
    found += _growth(answers["scaling"])
    found += _frugal(answers["costs"])
    found += _spent(answers["spent"])
    return found


def _best(merged: Rows, references: Mapping[str, Row], role: str, where: str) -> str:
    best = max(merged, key=lambda row: row[role])
    text = (
        f"Best on {where}: {_name(best)} with {100 * best[role]:.1f} ± "
        f"{100 * best[f'{role}_se']:.1f}%"
    )
    gains: list[str] = []
    for name, row in references.items():
        if row[role] is not None and (name != "individual" or role == "held_in"):
            gain = 100 * (best[role] - row[role])
            side = "above" if gain > 0 else "below"
            gains.append(f"{abs(gain):.1f} {side} the {_REFERENCES.get(name, name)}")
    return f"{text}; in points, {', '.join(gains)}." if gains else f"{text}."


def _relation(rows: Rows) -> list[str]:
    merged = [row for row in rows if row["kind"] == "merged"]
    text = correlation(
        merged[0]["pearson_r"], merged[0]["pearson_p"], merged[0]["methods"]
    )
    if not text:
        return []
    front = [title(row["method"]) for row in merged if row["on_front"]]
    rises = "better" if merged[0]["pearson_r"] > 0 else "worse"
    return [
        f"Methods that do better on held-in tasks tend to generalize {rises}: {text}. "
        f"No other method beats {_listed(front)} in both."
    ]


def _growth(rows: Rows) -> list[str]:
    merged = [row for row in rows if row["kind"] == "merged"]
    sizes = sorted({row["size"] for row in merged})
    if len(sizes) < 2:
        return []
    everywhere = [
        method
        for method in {row["method"] for row in merged}
        if len({row["size"] for row in merged if row["method"] == method}) == len(sizes)
    ]
    ends = [
        [row for row in merged if row["size"] == size and row["method"] in everywhere]
        for size in (sizes[0], sizes[-1])
    ]
    if not everywhere or any(row["generalization"] is None for e in ends for row in e):
        return []
    changes: list[str] = []
    for role, name in (("held_in", "held-in"), ("generalization", "generalization")):
        few, many = (sum(row[role] for row in end) / len(end) for end in ends)
        verb = "falls" if many < few else "rises"
        changes.append(
            f"{name} accuracy {verb} from {100 * few:.1f} to {100 * many:.1f}%"
        )
    return [
        f"From {sizes[0]} to {sizes[-1]} experts, {' and '.join(changes)} (mean of "
        f"the {len(everywhere)} methods merged at every size)."
    ]


def _frugal(rows: Rows) -> list[str]:
    known = [row for row in rows if row["total_flops"]]
    if len(known) < 2:
        return []
    best = max(known, key=lambda row: row["held_in"])
    close = [
        row for row in known if row["held_in"] >= best["held_in"] - best["held_in_se"]
    ]
    cheapest = min(close, key=lambda row: row["total_flops"])
    if cheapest["method"] == best["method"]:
        return [
            "Nothing cheaper comes within a standard error of "
            f"{title(best['method'])} on held-in tasks "
            f"({quantity(best['total_flops'], 'FLOPs')} for statistics and merge)."
        ]
    return [
        f"{title(cheapest['method'])} comes within a standard error of "
        f"{title(best['method'])} on held-in tasks for "
        f"{quantity(cheapest['total_flops'], 'FLOPs')} instead of "
        f"{quantity(best['total_flops'], 'FLOPs')}."
    ]


def _spent(rows: Rows) -> list[str]:
    total = sum(row["seconds"] for row in rows)
    if not total:
        return []
    largest = rows[0]
    return [
        f"All steps together took {duration(total)} of work, "
        f"{100 * largest['seconds'] / total:.0f}% of it to {_verb(largest['stage'])}."
    ]


def _verb(stage: str) -> str:
    return {
        "data": "make the data",
        "train": "train experts",
        "pretrain": "pretrain",
        "multitask": "train the multitask model",
        "merge": "merge",
        "evaluate": "evaluate",
    }.get(stage, f"measure {stage}")


def _name(row: Row) -> str:
    options = f" ({row['options']})" if row["options"] else ""
    return title(row["method"]) + options


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
