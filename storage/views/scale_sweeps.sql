-- How sensitive is each method to the scale of what it adds to the pretrained model? The
-- best recipe with each scale, by held-in validation.
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    recipes.kind,
    TRY_CAST(recipes.swept ->> 'scale' AS DOUBLE) AS scale,
    readable(json_merge_patch(recipes.swept, '{"scale": null}')) AS options,  -- others
    recipes.validation,
    recipes.held_in,
    recipes.held_in_se,
    recipes.generalization,
    recipes.generalization_se,
    recipes.is_chosen,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
WHERE TRY_CAST(recipes.swept ->> 'scale' AS DOUBLE) IS NOT NULL
QUALIFY row_number() OVER (
    PARTITION BY recipes.experiment, recipes.subset, recipes.method, scale
    ORDER BY recipes.validation DESC NULLS LAST, recipes.merge_flops, recipes.options
) = 1
ORDER BY recipes.experiment, recipes.subset, recipes.method, scale
