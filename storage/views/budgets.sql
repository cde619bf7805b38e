-- Which data did each method need beside its experts, and how good is it? To compare on an
-- equal budget, filter by it. Options that were chosen need all validation labels of the
-- merged experts' tasks; what is learned or measured from the same split needs no others.
WITH validation AS (
    SELECT experiment, subset, max(examples) AS examples
    FROM (
        SELECT entries.experiment, entries.subset, entries.cell,
            sum(scores.examples) AS examples
        FROM entries
        JOIN scores USING (cell)
        WHERE entries.kind = 'merged' AND scores.split = 'validation'
        GROUP BY entries.experiment, entries.subset, entries.cell
    )
    GROUP BY experiment, subset
),

asked AS (  -- does any option of theirs come from other cells' scores?
    SELECT entries.experiment, entries.subset, entries.method, entries.options,
        bool_or(lineage.parent IN (SELECT cell FROM cells)) AS waits
    FROM entries
    JOIN lineage ON lineage.child = entries.cell
    GROUP BY ALL
),

tried AS (
    SELECT experiment, subset, method, count(*) AS recipes
    FROM recipes
    GROUP BY experiment, subset, method
),

-- Tasks have examples of their own: statistics of single experts add up.
used AS (
    SELECT experiment, subset, method, options,
        max(labelled) AS labelled, max(unlabelled) AS unlabelled
    FROM (
        SELECT entries.experiment, entries.subset, entries.method, entries.options,
            entries.cell, costs.stage,
            sum(costs.labelled) AS labelled, sum(costs.unlabelled) AS unlabelled
        FROM entries
        JOIN uses USING (experiment, cell)
        JOIN costs USING (step)
        WHERE costs.stage NOT IN ('data', 'pretrain', 'train', 'merge', 'evaluate')
        GROUP BY ALL
    )
    GROUP BY ALL
)

SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    readable(recipes.swept) AS options,
    greatest(
        CASE
            WHEN recipes.kind <> 'reference' AND (tried.recipes > 1 OR asked.waits)
                THEN validation.examples
            ELSE 0
        END,
        coalesce(used.labelled, 0)
    )::BIGINT AS labelled,       -- different examples whose labels were used
    coalesce(used.unlabelled, 0)::BIGINT AS unlabelled,  -- of which inputs alone were
    is_transductive(recipes.options) AS transductive,  -- adapted to the test inputs
    recipes.held_in,
    recipes.held_in_se,
    recipes.generalization,
    recipes.generalization_se,
    recipes.kind,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
JOIN tried USING (experiment, subset, method)
LEFT JOIN asked USING (experiment, subset, method, options)
LEFT JOIN validation USING (experiment, subset)
LEFT JOIN used USING (experiment, subset, method, options)
WHERE recipes.is_chosen
ORDER BY recipes.experiment, recipes.subset, labelled, recipes.held_in DESC
