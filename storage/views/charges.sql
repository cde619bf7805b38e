-- What does each cell cost, by stage? A step is paid for by all cells of the experiment
-- that need it, in equal parts, so that the charges add up to what was spent.
WITH users AS (
    SELECT experiment, step, count(*) AS cells
    FROM uses
    GROUP BY experiment, step
)

SELECT
    uses.experiment,
    uses.cell,
    costs.stage,
    count(*) AS steps,
    sum(costs.seconds / users.cells) AS amortized_seconds,
    sum(costs.flops / users.cells) AS amortized_flops,
    sum(costs.seconds) AS unshared_seconds,
    sum(costs.flops) AS unshared_flops,
    coalesce(sum(costs.seconds) FILTER (uses.step = uses.cell), 0) AS own_seconds,
    coalesce(sum(costs.flops) FILTER (uses.step = uses.cell), 0) AS own_flops,
    coalesce(sum(costs.paper_flops) FILTER (uses.step = uses.cell), 0)
        AS own_paper_flops
FROM uses
JOIN users USING (experiment, step)
JOIN costs USING (step)
GROUP BY uses.experiment, uses.cell, costs.stage
