"""Columns of heat maps of coefficients: parameters, or means over several of them."""

from collections.abc import Mapping
from itertools import groupby
from statistics import fmean

from dashboards.frame import Row, Rows

MOST_PARAMETERS = 80
"""With more parameters than this, a heat map has a column for each layer."""

OUTSIDE = "out"
"""Stands for the depth of parameters that are in no layer."""


def columns_of(rows: Rows) -> list[list[Row]]:
    """Part coefficients by what has a column of its own, in the model's order.

    Args:
        rows: of the question `coefficients`, of one method.

    Returns:
        The rows of each column: of a parameter, or of a layer if there are many; what
        is outside the layers has a column for each kind.
    """
    ordered = sorted(rows, key=lambda row: row["place"])
    if len({row["place"] for row in rows}) <= MOST_PARAMETERS:
        return [[*column] for _, column in groupby(ordered, lambda row: row["place"])]

    def layer(row: Row) -> tuple[int | None, int | None, str]:
        kind = row["layer_kind"] if row["depth"] is None else ""
        return row["depth"], row["layers"], kind

    return [[*column] for _, column in groupby(ordered, layer)]


def depths_of(rows: Rows) -> dict[str, list[Row]]:
    """Part coefficients by depth.

    Args:
        rows: of the question `coefficients`, of one method and one kind of layer.

    Returns:
        Each depth with its rows, those outside the layers last.
    """
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row["depth"] is None, row["depth"] or 0)):
        depth = OUTSIDE if row["depth"] is None else str(row["depth"])
        found.setdefault(depth, []).append(row)
    return found


def by_expert(column: Rows) -> Mapping[str, float]:
    """Average a column.

    Args:
        column: its rows.

    Returns:
        Each expert with the mean of its coefficients.
    """
    ordered = sorted(column, key=lambda row: row["task"])
    return {
        task: fmean(row["value"] for row in own)
        for task, own in groupby(ordered, lambda row: row["task"])
    }


def column_name(column: Rows) -> str:
    """Name a column of `columns_of`.

    Args:
        column: its rows.

    Returns:
        The parameter, or what is averaged.
    """
    parameters = {row["parameter"] for row in column}
    row = column[0]
    if len(parameters) == 1:
        return row["parameter"]
    where = row["layer_kind"] if row["depth"] is None else f"layer {row['depth']}"
    return f"{where}, mean of {len(parameters)} parameters"


def depth_name(column: Rows) -> str:
    """Name a column of `depths_of`.

    Args:
        column: its rows.

    Returns:
        The kind of layer and the depth, and how many parameters are averaged.
    """
    count = len({row["parameter"] for row in column})
    depth = column[0]["depth"]
    where = "outside the layers" if depth is None else f"in layer {depth}"
    kind = column[0]["layer_kind"]
    return f"{kind} {where}, mean of {count} parameter{'' if count == 1 else 's'}"
