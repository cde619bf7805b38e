-- Where does the cost of each method's best merge come from, when all share?
SELECT
    recipes.method,
    costs.stage,
    avg(costs.amortized_seconds) AS amortized_seconds,
    avg(costs.unshared_seconds) AS unshared_seconds
FROM recipes
JOIN entries USING (experiment, subset, method, options)
JOIN amortized_costs AS costs
    ON costs.experiment = entries.experiment AND costs.cell = entries.cell
WHERE recipes.experiment = $experiment
    AND recipes.subset = $subset
    AND recipes.kind <> 'reference'
    AND recipes.is_chosen
GROUP BY recipes.method, costs.stage
ORDER BY recipes.method, costs.stage
