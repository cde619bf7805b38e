-- How accurate is each method, with its chosen options, on each test task? Seeds are
-- averaged, and so are individual experts on tasks that none of them was trained on.
SELECT
    entries.experiment,
    entries.subset,
    entries.method,
    recipes.kind,
    scores.task,
    scores.role,
    round(avg(scores.value), 12) AS accuracy,
    avg(scores.standard_error) AS accuracy_se,  -- seeds share all their test examples
    any_value(scores.examples) AS examples
FROM entries
JOIN recipes USING (experiment, subset, method, options)
JOIN scores USING (cell)
WHERE recipes.is_chosen
    AND scores.split = 'test'
    AND (scores.role = 'generalization' OR list_contains(entries.experts, scores.task))
GROUP BY ALL
