-- What does it take to learn coefficients, beside fine-tuning one model for all tasks and
-- beside merges that learn nothing? Table 5 of the SuperMerge paper: memory by its eq. 6
-- and as measured (the most that the process had held by the end of the step).
WITH learned AS (
    SELECT step, any_value(trained) AS trained, any_value(together) AS together
    FROM learning
    GROUP BY step
)

SELECT
    entries.experiment,
    subsets.size,
    subsets.sample,
    entries.method,
    costs.stage,
    max(learned.trained) AS trained,     -- numbers; NULL if not learned here
    max(learned.together) AS together,   -- task vectors in memory at a time
    max(costs.labelled) AS labelled,     -- different examples
    max(costs.unlabelled) AS unlabelled,
    max(costs.paper_memory) AS paper_memory,  -- bytes
    max(costs.peak_memory) AS peak_memory,
    avg(costs.examples / nullif(greatest(costs.labelled, costs.unlabelled), 0))
        AS epochs,
    avg(costs.flops * greatest(costs.labelled, costs.unlabelled)
        / nullif(costs.examples, 0)) AS flops_per_epoch,
    avg(costs.flops) AS flops,
    avg(costs.seconds) AS seconds,
    entries.subset
FROM entries
JOIN recipes USING (experiment, subset, method, options)
JOIN subsets USING (experiment, subset)
JOIN uses USING (experiment, cell)
JOIN costs USING (step)
LEFT JOIN learned USING (step)
WHERE recipes.is_chosen
    AND (
        costs.stage IN ('learn', 'few_shot')
        OR (costs.stage = 'merge' AND entries.kind = 'merged')
        OR (costs.stage = 'multitask' AND entries.method = 'multitask')
    )
GROUP BY
    entries.experiment, subsets.size, subsets.sample, entries.method, costs.stage,
    entries.subset
ORDER BY entries.experiment, entries.subset, entries.method, costs.stage
