-- How many tasks must have a use for an entry of the merged task vector, for it to be
-- worth keeping? The best recipe with each threshold, by held-in validation, beside the
-- method whose task vector it prunes.
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    recipes.options ->> 'merge_by' AS merge_by,
    CAST(recipes.options ->> 'agreement' AS BIGINT) AS agreement,  -- the threshold k
    readable(
        json_merge_patch(recipes.swept, '{"agreement": null, "merge_by": null}')
    ) AS options,  -- others
    recipes.validation,
    recipes.held_in,
    recipes.held_in_se,
    recipes.generalization,
    recipes.generalization_se,
    recipes.normalized,
    whole.held_in AS unpruned_held_in,
    whole.generalization AS unpruned_generalization,
    whole.normalized AS unpruned_normalized,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
LEFT JOIN recipes AS whole
    ON whole.experiment = recipes.experiment
    AND whole.subset = recipes.subset
    AND whole.method = recipes.options ->> 'merge_by'
    AND whole.is_chosen
WHERE recipes.method = 'consensus'
QUALIFY row_number() OVER (
    PARTITION BY recipes.experiment, recipes.subset, merge_by, agreement
    ORDER BY recipes.validation DESC NULLS LAST, recipes.merge_flops, recipes.options
) = 1
ORDER BY recipes.experiment, recipes.subset, merge_by, agreement
