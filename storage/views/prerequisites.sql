-- What did cells need before they could be merged, what did it cost, who shared it?
WITH needed AS (
    SELECT
        uses.experiment,
        uses.step,
        count(*) AS users
    FROM uses
    WHERE uses.step <> uses.cell
    GROUP BY uses.experiment, uses.step
),

sharing AS (
    SELECT uses.experiment, costs.stage, count(DISTINCT uses.cell) AS cells
    FROM uses
    JOIN current_cells AS cells USING (experiment, cell)
    JOIN costs USING (step)
    WHERE uses.step <> uses.cell AND cells.kind <> 'reference'
    GROUP BY uses.experiment, costs.stage
)

SELECT
    needed.experiment,
    costs.stage,
    count(*) AS steps,
    sum(costs.seconds) AS seconds,
    sum(costs.flops) AS flops,
    sum(costs.examples) AS examples,        -- seen, counting repetitions
    sum(artifacts.bytes) AS bytes,          -- stored
    max(costs.peak_memory) AS peak_memory,
    coalesce(any_value(sharing.cells), 0) AS cells,  -- merges that need any of them
    avg(needed.users) AS users_per_step     -- models for reference included
FROM needed
JOIN costs USING (step)
LEFT JOIN artifacts ON artifacts.artifact = needed.step
LEFT JOIN sharing
    ON sharing.experiment = needed.experiment AND sharing.stage = costs.stage
GROUP BY needed.experiment, costs.stage
ORDER BY needed.experiment, seconds DESC
