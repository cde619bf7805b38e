-- How accurate is every method, with its chosen options, on each task, and which rank
-- does that give it among the merges?
SELECT
    tasks.method,
    tasks.kind,
    tasks.task,
    tasks.role,
    tasks.accuracy,
    tasks.accuracy_se,
    task_ranks.task_rank,
    tasks.examples
FROM task_accuracies AS tasks
JOIN leaderboard AS board USING (experiment, subset, method)
LEFT JOIN task_ranks USING (experiment, subset, method, task)
WHERE experiment = $experiment AND subset = $subset
ORDER BY tasks.kind, board.held_in DESC, tasks.role DESC, tasks.task
