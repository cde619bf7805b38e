-- How accurate is this cell on each task, beside the models for reference?
WITH reference AS (
    SELECT
        scores.task,
        any_value(scores.value) FILTER (cells.method = 'pretrained') AS pretrained,
        any_value(scores.value) FILTER (
            cells.method = 'individual' AND cells.experts[1] = scores.task
        ) AS individual
    FROM current_cells AS cells
    JOIN scores USING (cell)
    WHERE cells.experiment = $experiment
        AND cells.kind = 'reference'
        AND scores.split = 'test'
    GROUP BY scores.task
)

SELECT
    scores.task,
    scores.role,
    scores.split,
    scores.value AS accuracy,
    scores.standard_error AS accuracy_se,
    scores.correct,
    scores.examples,
    reference.pretrained,
    reference.individual
FROM scores
LEFT JOIN reference USING (task)
WHERE scores.cell = $cell
ORDER BY scores.role DESC, scores.task, scores.split
