-- How far is each method behind the best one, task by task on the same examples?
WITH best AS (
    SELECT
        max_by(method, held_in) AS held_in,
        max_by(method, generalization) AS generalization
    FROM leaderboard
    WHERE experiment = $experiment AND subset = $subset AND kind = 'merged'
)

SELECT
    paired.role,
    paired.method,
    paired.other AS best,
    paired.difference,
    paired.standard_error,
    paired.tasks
FROM paired
JOIN best
    ON paired.other
        = CASE paired.role WHEN 'held_in' THEN best.held_in ELSE best.generalization END
WHERE paired.experiment = $experiment AND paired.subset = $subset
ORDER BY paired.role DESC, paired.difference DESC
