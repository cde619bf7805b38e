-- Are the entries of largest magnitude worth more than as many at random? The best recipe
-- with each density and selection, by held-in validation.
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    recipes.kind,
    recipes.options ->> 'selection' AS selection,
    TRY_CAST(recipes.options ->> 'density' AS DOUBLE) AS density,
    readable(
        json_merge_patch(recipes.swept, '{"density": null, "selection": null}')
    ) AS options,  -- others
    recipes.seeds,
    recipes.validation,
    recipes.held_in,
    recipes.held_in_se,
    recipes.generalization,
    recipes.generalization_se,
    recipes.normalized,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
WHERE TRY_CAST(recipes.options ->> 'density' AS DOUBLE) IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY
        recipes.experiment, recipes.subset, recipes.method, selection, density
    ORDER BY recipes.validation DESC NULLS LAST, recipes.merge_flops, recipes.options
) = 1
ORDER BY recipes.experiment, recipes.subset, recipes.method, selection, density
