-- What was this cell made from, directly or not, and how many others were, too?
WITH users AS (
    SELECT step, count(*) - 1 AS others
    FROM uses
    WHERE experiment = $experiment
    GROUP BY step
)

SELECT
    costs.stage,
    uses.step,
    split_part(
        coalesce(
            artifacts.inputs ->> 'task',
            artifacts.inputs -> 'tasks' ->> 0,
            experts.inputs -> 'tasks' ->> 0
        ),
        '@',
        1
    ) AS task,
    costs.seconds,
    costs.flops,
    artifacts.bytes,
    users.others,
    costs.device,
    left(costs.git_commit, 12) AS git_commit,
    coalesce(artifacts.created_at, costs.recorded_at) AS made_at
FROM uses
LEFT JOIN costs USING (step)
LEFT JOIN artifacts ON artifacts.artifact = uses.step
LEFT JOIN artifacts AS experts ON experts.artifact = artifacts.inputs ->> 'expert'
LEFT JOIN users USING (step)
WHERE uses.experiment = $experiment
    AND uses.cell = $cell
    AND uses.step <> uses.cell
ORDER BY made_at, costs.stage, task
