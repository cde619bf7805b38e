-- Which coefficient did learning give each parameter of each expert? Of the recipes that
-- held-in validation chose, seed by seed.
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    readable(recipes.swept) AS options,  -- chosen, of those that were swept
    entries.seed,
    coefficients.task,           -- whose expert's task vector it multiplies
    coefficients.parameter,
    coefficients.place,          -- in the model's order, from 0
    coefficients.layer_kind,
    coefficients.depth,          -- the layer, from 0; NULL outside the layers
    coefficients.layers,         -- how many there are in its stack
    coefficients.value,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
JOIN entries USING (experiment, subset, method, options)
JOIN lineage ON lineage.child = entries.cell
JOIN coefficients ON coefficients.step = lineage.parent
WHERE recipes.is_chosen
ORDER BY
    recipes.experiment, recipes.subset, recipes.method, entries.seed,
    coefficients.place, coefficients.task
