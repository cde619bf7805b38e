-- Is one method really better than another? The paired bootstrap over tasks: the mean
-- difference with its 95 % interval, and the share of the replicates in which the method
-- is ahead, where an equal one counts half.
WITH means AS (
    SELECT role, method, avg(accuracy) AS accuracy
    FROM task_accuracies
    WHERE experiment = in_experiment AND subset = in_subset
    GROUP BY role, method
),

compared AS (
    SELECT
        one.role,
        one.method,
        other.method AS other,
        avg((1 + sign(one.accuracy - other.accuracy)) / 2) AS ahead,
        quantile_cont(one.accuracy - other.accuracy, [0.025, 0.975]) AS interval,
        any_value(one.tasks) AS tasks
    FROM bootstrap_replicates(in_experiment, in_subset, replicates := replicates) AS one
    JOIN bootstrap_replicates(in_experiment, in_subset, replicates := replicates)
        AS other USING (role, replicate)
    WHERE one.method <> other.method
    GROUP BY one.role, one.method, other.method
)

SELECT
    compared.role,
    compared.method,
    compared.other,
    mine.accuracy - theirs.accuracy AS difference,
    compared.interval[1] AS low,
    compared.interval[2] AS high,
    compared.ahead,
    compared.tasks
FROM compared
JOIN means AS mine ON mine.role = compared.role AND mine.method = compared.method
JOIN means AS theirs
    ON theirs.role = compared.role AND theirs.method = compared.other
