-- Which steps does each cell need, directly or not? It needs itself, too. Other cells are
-- none of its steps, even if their scores chose one of its options: they are in the grid
-- for their own sake, and pay for themselves.
WITH RECURSIVE closure (experiment, cell, step) AS (
    SELECT experiment, cell, cell
    FROM current_cells
    UNION
    SELECT closure.experiment, closure.cell, lineage.parent
    FROM closure
    JOIN lineage ON lineage.child = closure.step
    WHERE lineage.parent NOT IN (SELECT cell FROM cells)
)

SELECT experiment, cell, step
FROM closure
