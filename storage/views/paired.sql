-- Is one method really better than another? Both with their chosen options, compared task
-- by task on the same examples; the error is that of the mean over tasks.
SELECT
    one.experiment,
    subsets.size,
    subsets.sample,
    one.role,
    one.method,
    other.method AS other,
    avg(one.accuracy - other.accuracy) AS difference,
    stddev_samp(one.accuracy - other.accuracy) / sqrt(count(*)) AS standard_error,
    count(*) AS tasks,
    one.subset
FROM task_ranks AS one
JOIN task_ranks AS other USING (experiment, subset, task)
JOIN subsets USING (experiment, subset)
WHERE one.method <> other.method
GROUP BY ALL
