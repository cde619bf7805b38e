-- Which method is best with the options that held-in validation chose, and what does it
-- cost? One row per method and subset of experts, models for reference included.
SELECT
    recipes.experiment,
    subsets.size,                    -- number of experts
    subsets.sample,                  -- nested sample that they belong to; 0: none
    recipes.method,
    CASE
        WHEN recipes.kind = 'per_task' OR recipes.method = 'individual' THEN 'per task'
        ELSE 'one'
    END AS models,                   -- one for all tasks, or one for each
    readable(recipes.swept) AS options,  -- chosen, of those that were swept
    recipes.held_in,                 -- mean test accuracy over the experts' tasks
    recipes.held_in_se,              -- its standard error
    recipes.generalization,          -- mean test accuracy over tasks without an expert
    recipes.generalization_se,
    recipes.normalized,              -- mean of accuracy / individual expert's accuracy
    is_transductive(recipes.options) AS transductive,
    ranks.average_rank,              -- over all test tasks; NULL for references
    recipes.merge_flops,             -- of one merge
    recipes.statistics_flops,        -- of what was measured and learned for it
    recipes.merge_seconds,
    recipes.statistics_seconds,
    recipes.amortized_seconds,       -- with its share of every step that it needs
    recipes.unshared_seconds,        -- the same, if it had to pay for all of them
    tried.recipes AS recipes_tried,
    tried.seconds AS tuning_seconds, -- amortized, of all recipes tried
    recipes.validation,              -- what chose the options
    recipes.seeds,
    recipes.kind,
    recipes.subset,
    recipes.options AS all_options,
    recipes.first_cell AS cell       -- what `export` takes; that of the first seed
FROM recipes
JOIN subsets USING (experiment, subset)
LEFT JOIN ranks USING (experiment, subset, method)
JOIN (
    SELECT
        experiment,
        subset,
        method,
        count(*) AS recipes,
        sum(amortized_seconds) AS seconds
    FROM recipes
    GROUP BY experiment, subset, method
) AS tried USING (experiment, subset, method)
WHERE recipes.is_chosen
ORDER BY recipes.experiment, recipes.subset, recipes.held_in DESC, recipes.method
