-- Which options did held-in validation choose for each method and subset of experts?
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    recipes.options,
    readable(recipes.swept) AS swept,
    recipes.validation,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
WHERE recipes.is_chosen AND recipes.kind <> 'reference'
