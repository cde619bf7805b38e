-- Where does each cell's cost come from? Its own, and its share of every step it needs.
SELECT
    charges.experiment,
    charges.cell,
    cells.method,
    readable(cells.swept) AS options,
    cells.size,
    cells.sample,
    cells.seed,
    charges.stage,
    charges.steps,               -- that it needs at this stage
    charges.amortized_seconds,   -- each divided by the cells that need it
    charges.amortized_flops,
    charges.own_seconds,         -- of the cell itself
    charges.own_flops,
    charges.unshared_seconds,    -- if nobody shared
    charges.unshared_flops
FROM charges
JOIN current_cells AS cells USING (experiment, cell)
