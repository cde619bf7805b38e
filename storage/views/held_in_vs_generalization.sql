-- Do methods that do well on held-in tasks generalize better? Pearson's correlation over
-- the merge methods, and its two-sided p-value, beside the points that it is about.
SELECT
    *,
    pearson_p(pearson_r, methods) AS pearson_p
FROM (
    SELECT
        experiment,
        size,
        sample,
        method,
        kind,
        options,
        held_in,
        held_in_se,
        generalization,
        generalization_se,
        corr(generalization, held_in) FILTER (kind = 'merged') OVER over_subset
            AS pearson_r,
        count(*) FILTER (kind = 'merged') OVER over_subset AS methods,
        subset
    FROM leaderboard
    WINDOW over_subset AS (PARTITION BY experiment, subset)
)
ORDER BY experiment, subset, held_in DESC
