-- How did every merge do?
SELECT
    cells.cell,
    cells.method,
    readable(cells.swept) AS options,
    cells.size,
    cells.sample,
    cells.seed,
    is_transductive(cells.options) AS transductive,
    accuracies.validation,
    accuracies.held_in,
    accuracies.held_in_se,
    accuracies.generalization,
    accuracies.generalization_se,
    coalesce(recipes.is_chosen, false) AS is_chosen,
    entries.subset
FROM current_cells AS cells
JOIN entries USING (experiment, cell)
LEFT JOIN accuracies USING (experiment, subset, cell)
LEFT JOIN recipes
    ON recipes.experiment = entries.experiment
    AND recipes.subset = entries.subset
    AND recipes.method = entries.method
    AND recipes.options = entries.options
WHERE cells.experiment = $experiment AND cells.kind <> 'reference'
ORDER BY accuracies.held_in DESC NULLS LAST, cells.cell
