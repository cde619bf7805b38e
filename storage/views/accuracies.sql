-- How accurate is each entry, on average over tasks, and how sure are we? Errors are those
-- of the finite test sets: tasks are independent, and each counts the same. Means are
-- rounded, so that equal ones are equal in whichever order they were summed.
WITH individual AS (
    SELECT cells.experiment, scores.task, any_value(scores.value) AS value
    FROM current_cells AS cells
    JOIN scores USING (cell)
    WHERE cells.method = 'individual'
        AND scores.task = cells.experts[1]
        AND scores.split = 'test'
    GROUP BY cells.experiment, scores.task
),

counted AS (
    SELECT
        entries.experiment,
        entries.subset,
        entries.cell,
        scores.split,
        scores.role,
        scores.value,
        scores.standard_error,
        scores.value / nullif(individual.value, 0) AS normalized
    FROM entries
    JOIN scores USING (cell)
    LEFT JOIN individual USING (experiment, task)
    WHERE scores.role = 'generalization'
        OR list_contains(entries.experts, scores.task)
)

SELECT
    experiment,
    subset,
    cell,
    round(avg(value) FILTER (split = 'validation' AND role = 'held_in'), 12)
        AS validation,
    round(avg(value) FILTER (split = 'test' AND role = 'held_in'), 12) AS held_in,
    sqrt(sum(standard_error ** 2) FILTER (split = 'test' AND role = 'held_in'))
        / count(*) FILTER (split = 'test' AND role = 'held_in') AS held_in_se,
    round(avg(value) FILTER (split = 'test' AND role = 'generalization'), 12)
        AS generalization,
    sqrt(sum(standard_error ** 2) FILTER (split = 'test' AND role = 'generalization'))
        / count(*) FILTER (split = 'test' AND role = 'generalization')
        AS generalization_se,
    avg(normalized) FILTER (split = 'test' AND role = 'held_in') AS normalized
FROM counted
GROUP BY experiment, subset, cell
