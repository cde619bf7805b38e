-- How much of each expert's accuracy on its own task does a merge keep?
SELECT
    experiment,
    subsets.size,
    subsets.sample,
    kept.method,
    kept.task,
    kept.accuracy,
    expert.accuracy AS individual,
    kept.accuracy / nullif(expert.accuracy, 0) AS normalized,
    subset
FROM task_accuracies AS kept
JOIN task_accuracies AS expert USING (experiment, subset, task)
JOIN subsets USING (experiment, subset)
WHERE kept.role = 'held_in'
    AND kept.method <> 'individual'
    AND expert.method = 'individual'
ORDER BY experiment, subset, kept.method, kept.task
