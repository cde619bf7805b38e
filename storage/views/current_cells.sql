-- Which cells does each experiment consist of, by its latest definition?
SELECT cells.* EXCLUDE (definition, record)
FROM cells
JOIN (
    SELECT experiment, max_by(definition, (recorded_at, definition)) AS definition
    FROM experiments
    GROUP BY experiment
) USING (experiment, definition)
