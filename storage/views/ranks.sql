-- How often does each method beat the others? Its rank, averaged over test tasks.
SELECT
    experiment,
    subset,
    method,
    avg(task_rank) AS average_rank,
    avg(task_rank) FILTER (role = 'held_in') AS held_in_rank,
    avg(task_rank) FILTER (role = 'generalization') AS generalization_rank,
    count(*) FILTER (task_rank < 2) AS tasks_won,
    count(*) AS tasks
FROM task_ranks
GROUP BY experiment, subset, method
