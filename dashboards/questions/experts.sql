-- How does each expert by itself do on tasks that none of them was trained on?
SELECT
    cells.experts[1] AS expert,
    scores.task,
    scores.value AS accuracy,
    scores.standard_error AS accuracy_se,
    scores.examples
FROM entries
JOIN current_cells AS cells USING (experiment, cell)
JOIN scores USING (cell)
WHERE entries.experiment = $experiment
    AND entries.subset = $subset
    AND entries.method = 'individual'
    AND scores.split = 'test'
    AND scores.role = 'generalization'
ORDER BY expert, scores.task
