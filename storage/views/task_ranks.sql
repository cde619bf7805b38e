-- Which method is best on each test task, every method with its chosen options? Equal
-- accuracies share the mean of their ranks; 1 is best; only merges are ranked.
WITH compared AS (
    SELECT
        entries.experiment,
        entries.subset,
        scores.task,
        scores.role,
        entries.method,
        round(avg(scores.value), 12) AS accuracy
    FROM entries
    JOIN recipes USING (experiment, subset, method, options)
    JOIN scores USING (cell)
    WHERE recipes.is_chosen
        AND entries.kind = 'merged'
        AND scores.split = 'test'
        AND (scores.role = 'generalization'
            OR list_contains(entries.experts, scores.task))
    GROUP BY ALL
)

SELECT
    *,
    rank() OVER (
        PARTITION BY experiment, subset, task ORDER BY accuracy DESC
    ) + (count(*) OVER (
        PARTITION BY experiment, subset, task, accuracy
    ) - 1) / 2 AS task_rank
FROM compared
