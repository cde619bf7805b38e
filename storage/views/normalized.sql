-- How much of each expert's accuracy on its own task does a merge keep?
SELECT
    entries.experiment,
    subsets.size,
    subsets.sample,
    entries.method,
    scores.task,
    avg(scores.value) AS accuracy,
    any_value(expert.value) AS individual,
    avg(scores.value) / nullif(any_value(expert.value), 0) AS normalized,
    entries.subset
FROM entries
JOIN subsets USING (experiment, subset)
JOIN recipes USING (experiment, subset, method, options)
JOIN scores ON scores.cell = entries.cell AND scores.split = 'test'
JOIN current_cells AS individual
    ON individual.experiment = entries.experiment
    AND individual.method = 'individual'
    AND individual.experts[1] = scores.task
JOIN scores AS expert
    ON expert.cell = individual.cell
    AND expert.task = scores.task
    AND expert.split = 'test'
WHERE recipes.is_chosen
    AND entries.method <> 'individual'
    AND list_contains(entries.experts, scores.task)
GROUP BY
    entries.experiment,
    entries.subset,
    subsets.size,
    subsets.sample,
    entries.method,
    scores.task
ORDER BY entries.experiment, entries.subset, entries.method, scores.task
