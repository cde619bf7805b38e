-- Which method is best, with the options that held-in validation chose?
SELECT
    method,
    kind,
    models,
    options,
    held_in,
    held_in_se,
    generalization,
    generalization_se,
    normalized,
    average_rank,
    merge_flops,
    statistics_flops,
    amortized_seconds,
    recipes_tried,
    seeds,
    size
FROM leaderboard
WHERE experiment = $experiment AND subset = 1
ORDER BY kind, held_in DESC
