-- Which data does each recipe need by itself, to learn or to measure something, and how
-- good is it? What it takes to choose among recipes is not counted: see `budgets`.
WITH documents AS (
    SELECT experiment, max_by(document, (recorded_at, definition)) AS document
    FROM experiments
    GROUP BY experiment
),

steps AS (  -- what each cell's steps took from each split
    SELECT
        entries.experiment,
        entries.subset,
        entries.method,
        entries.options,
        entries.cell,
        costs.stage,
        CASE costs.stage
            WHEN 'learn' THEN entries.options ->> 'split'
            WHEN 'multitask' THEN 'train'
            WHEN 'few_shot' THEN document ->> '$.training.few_shot.split'
            ELSE document ->> concat('$.statistics.', costs.stage, '.split')
        END AS split,
        -- Tasks have examples of their own: statistics of single experts add up.
        sum(costs.labelled) AS labelled,
        sum(costs.unlabelled) AS unlabelled
    FROM entries
    JOIN documents USING (experiment)
    JOIN uses USING (experiment, cell)
    JOIN costs USING (step)
    WHERE costs.stage NOT IN ('data', 'pretrain', 'train', 'merge', 'evaluate')
    GROUP BY ALL
),

splits AS (
    SELECT experiment, subset, method, options, split,
        -- What several steps take from the same split are the same examples.
        max(labelled) AS labelled, max(unlabelled) AS unlabelled
    FROM steps
    GROUP BY ALL
),

used AS (
    SELECT experiment, subset, method, options,
        sum(labelled) AS labelled,
        sum(labelled) FILTER (split = 'validation') AS of_validation,
        sum(unlabelled) AS unlabelled
    FROM splits
    GROUP BY ALL
)

SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    readable(recipes.swept) AS options,
    coalesce(used.labelled, 0)::BIGINT AS labelled,      -- different examples
    coalesce(used.of_validation, 0)::BIGINT AS of_validation,  -- labelled, of that split
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
