-- Which method is best on each test task, every method with its chosen options? Equal
-- accuracies share the mean of their ranks; 1 is best; only merges are ranked.
SELECT
    experiment,
    subset,
    task,
    role,
    method,
    accuracy,
    rank() OVER (
        PARTITION BY experiment, subset, task ORDER BY accuracy DESC
    ) + (count(*) OVER (
        PARTITION BY experiment, subset, task, accuracy
    ) - 1) / 2 AS task_rank
FROM task_accuracies
WHERE kind = 'merged'
