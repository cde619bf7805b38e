-- How accurate is every method, with its chosen options, on each task?
SELECT
    entries.method,
    recipes.kind,
    scores.task,
    scores.role,
    avg(scores.value) AS accuracy,
    avg(scores.standard_error) AS accuracy_se,
    sum(scores.examples) AS examples
FROM entries
JOIN recipes USING (experiment, subset, method, options)
JOIN scores USING (cell)
WHERE entries.experiment = $experiment
    AND entries.subset = $subset
    AND recipes.is_chosen
    AND scores.split = 'test'
    AND (scores.role = 'generalization' OR list_contains(entries.experts, scores.task))
GROUP BY entries.method, recipes.kind, scores.task, scores.role, recipes.held_in
ORDER BY recipes.kind, recipes.held_in DESC, scores.role DESC, scores.task
