-- Which task vectors were looked at in each experiment, by its latest definition?
SELECT profiles.* EXCLUDE (definition, record), subsets.subset
FROM profiles
JOIN (
    SELECT experiment, max_by(definition, (recorded_at, definition)) AS definition
    FROM experiments
    GROUP BY experiment
) USING (experiment, definition)
LEFT JOIN subsets USING (experiment, experts)  -- NULL if they were not merged, too
