-- Do methods that do well on held-in tasks generalize better? Pearson's correlation over
-- the merge methods, and its two-sided p-value, beside the points that it is about.
WITH correlations AS (
    SELECT
        experiment,
        subset,
        corr(generalization, held_in) AS pearson_r,
        count(*) AS methods
    FROM leaderboard
    WHERE kind = 'merged'
    GROUP BY experiment, subset
)

SELECT
    leaderboard.experiment,
    leaderboard.size,
    leaderboard.sample,
    leaderboard.method,
    leaderboard.kind,
    leaderboard.options,
    leaderboard.held_in,
    leaderboard.held_in_se,
    leaderboard.generalization,
    leaderboard.generalization_se,
    correlations.pearson_r,
    pearson_p(correlations.pearson_r, correlations.methods) AS pearson_p,
    correlations.methods,
    leaderboard.subset
FROM leaderboard
LEFT JOIN correlations USING (experiment, subset)
ORDER BY leaderboard.experiment, leaderboard.subset, leaderboard.held_in DESC
