-- How accurate would each method be on tasks drawn anew? The bootstrap over tasks: every
-- replicate draws as many tasks as there are of a kind, with replacement, and the same
-- ones for all methods. Draw i of replicate r takes the task whose place by name, from 0,
-- is MD5('r/i'), the last eight bytes as a little-endian number, modulo the number of
-- tasks: everybody gets the same replicates. Methods that were not scored on all the
-- tasks are left out.
WITH scored AS (
    SELECT *
    FROM task_accuracies
    WHERE experiment = in_experiment AND subset = in_subset
),

tasks AS (
    SELECT
        role,
        task,
        row_number() OVER (PARTITION BY role ORDER BY task) - 1 AS place,
        count(*) OVER (PARTITION BY role) AS tasks
    FROM (SELECT DISTINCT role, task FROM scored)
),

draws AS (
    SELECT role, replicate, unnest(range(tasks)) AS draw, tasks
    FROM (SELECT role, any_value(tasks) AS tasks FROM tasks GROUP BY role)
    CROSS JOIN range(replicates) AS numbers(replicate)
),

drawn AS (
    SELECT
        role,
        replicate,
        md5_number_lower(concat(replicate, '/', draw)) % tasks AS place,
        count(*) AS times
    FROM draws
    GROUP BY ALL
),

placed AS (
    SELECT scored.role, scored.method, scored.kind, scored.accuracy, place, tasks
    FROM scored
    JOIN tasks USING (role, task)
    QUALIFY count(*) OVER (PARTITION BY scored.role, scored.method) = tasks
)

SELECT
    placed.role,
    placed.method,
    any_value(placed.kind) AS kind,
    drawn.replicate,
    -- Rounded, so that equal means are equal in whichever order they were summed.
    round(sum(drawn.times * placed.accuracy) / any_value(placed.tasks), 12) AS accuracy,
    any_value(placed.tasks) AS tasks
FROM placed
JOIN drawn USING (role, place)
GROUP BY placed.role, placed.method, drawn.replicate
