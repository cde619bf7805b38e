-- Is a more expensive merge a better one?
SELECT
    board.method,
    board.options,
    board.merge_flops,
    board.statistics_flops,
    pareto.total_flops,
    board.merge_seconds,
    board.statistics_seconds,
    pareto.total_seconds,
    board.held_in,
    board.held_in_se,
    board.generalization,
    board.generalization_se,
    pareto.on_held_in_cost_front,
    pareto.on_generalization_cost_front,
    pareto.on_held_in_time_front,
    pareto.on_generalization_time_front
FROM leaderboard AS board
JOIN pareto USING (experiment, subset, method)
WHERE experiment = $experiment AND subset = $subset
ORDER BY pareto.total_flops
