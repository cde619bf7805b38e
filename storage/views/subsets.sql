-- Which experts are merged with one another in each experiment? Subset 1 is the largest
-- that was merged.
SELECT
    experiment,
    row_number() OVER (
        PARTITION BY experiment ORDER BY is_merged DESC, size DESC, sample, experts
    ) AS subset,
    size,
    sample,
    experts
FROM (
    SELECT
        experiment,
        experts,
        len(experts) AS size,
        min(sample) AS sample,
        bool_or(kind <> 'reference') AS is_merged
    FROM current_cells
    WHERE kind <> 'reference' OR method = 'multitask'
    GROUP BY experiment, experts
)
