-- Which data does each recipe need by itself, to learn or to measure something, and how
-- good is it? What it takes to choose among recipes is not counted: see `budgets`.
WITH used AS (
    SELECT experiment, subset, method, options,
        -- What several steps take from the same split are the same examples.
        max(labelled) AS labelled, max(unlabelled) AS unlabelled
    FROM (
        -- Tasks have examples of their own: statistics of single experts add up.
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
    coalesce(used.labelled, 0)::BIGINT AS labelled,      -- different examples
    coalesce(used.unlabelled, 0)::BIGINT AS unlabelled,  -- of which inputs alone
    is_transductive(recipes.options) AS transductive,    -- adapted to the test inputs
    recipes.validation,
    recipes.held_in,
    recipes.held_in_se,
    recipes.generalization,
    recipes.generalization_se,
    recipes.is_chosen,
    recipes.kind,
    recipes.options AS all_options,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
LEFT JOIN used USING (experiment, subset, method, options)
ORDER BY recipes.experiment, recipes.subset, recipes.method, labelled, options
