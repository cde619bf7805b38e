-- Which method is best, with the options that held-in validation chose?
SELECT
    method,
    kind,
    models,
    options,
    transductive,
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
    size,
    (
        SELECT min(entries.cell)
        FROM entries
        WHERE entries.experiment = board.experiment
            AND entries.subset = board.subset
            AND entries.method = board.method
            AND entries.options = board.all_options
    ) AS cell
FROM leaderboard AS board
WHERE experiment = $experiment AND subset = $subset
ORDER BY kind, held_in DESC
