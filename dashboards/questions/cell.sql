-- What is this cell, and what made it?
SELECT
    cells.experiment,
    cells.definition,
    cells.cell,
    cells.kind,
    cells.method,
    cells.method_version,
    readable(cells.swept) AS swept,
    cells.options,
    is_transductive(cells.options) AS transductive,
    cells.experts,
    cells.size,
    cells.sample,
    cells.seed,
    accuracies.validation,
    accuracies.held_in,
    accuracies.held_in_se,
    accuracies.generalization,
    accuracies.generalization_se,
    coalesce(recipes.is_chosen, false) AS is_chosen,
    costs.recorded_at,
    costs.device,
    costs.git_commit,
    costs.git_dirty,
    costs.versions,
    experiments.document
FROM cells
JOIN experiments USING (experiment, definition)
LEFT JOIN entries USING (experiment, cell)
LEFT JOIN accuracies USING (experiment, subset, cell)
LEFT JOIN recipes
    ON recipes.experiment = entries.experiment
    AND recipes.subset = entries.subset
    AND recipes.method = entries.method
    AND recipes.options = entries.options
LEFT JOIN costs ON costs.step = cells.cell AND costs.stage = 'merge'
WHERE cells.cell = $cell AND cells.kind <> 'reference'
ORDER BY cells.experiment = $experiment DESC, experiments.recorded_at DESC
LIMIT 1
