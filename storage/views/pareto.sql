-- Which merges does no other beat? First in both accuracies, then in held-in accuracy for
-- the operations spent on statistics and merge, then in generalization for them; and the
-- same for seconds in the place of operations.
WITH merges AS (
    SELECT
        *,
        merge_flops + statistics_flops AS total_flops,
        merge_seconds + statistics_seconds AS total_seconds
    FROM leaderboard
    WHERE kind = 'merged'
)

SELECT
    experiment,
    size,
    sample,
    method,
    options,
    held_in,
    generalization,
    total_flops,
    total_seconds,
    NOT EXISTS (
        SELECT 1
        FROM merges AS other
        WHERE other.experiment = merges.experiment
            AND other.subset = merges.subset
            AND other.held_in >= merges.held_in
            AND other.generalization >= merges.generalization
            AND (other.held_in > merges.held_in
                OR other.generalization > merges.generalization)
    ) AS on_front,
    NOT EXISTS (
        SELECT 1
        FROM merges AS other
        WHERE other.experiment = merges.experiment
            AND other.subset = merges.subset
            AND other.held_in >= merges.held_in
            AND other.total_flops <= merges.total_flops
            AND (other.held_in > merges.held_in
                OR other.total_flops < merges.total_flops)
    ) AS on_held_in_cost_front,
    NOT EXISTS (
        SELECT 1
        FROM merges AS other
        WHERE other.experiment = merges.experiment
            AND other.subset = merges.subset
            AND other.generalization >= merges.generalization
            AND other.total_flops <= merges.total_flops
            AND (other.generalization > merges.generalization
                OR other.total_flops < merges.total_flops)
    ) AS on_generalization_cost_front,
    NOT EXISTS (
        SELECT 1
        FROM merges AS other
        WHERE other.experiment = merges.experiment
            AND other.subset = merges.subset
            AND other.held_in >= merges.held_in
            AND other.total_seconds <= merges.total_seconds
            AND (other.held_in > merges.held_in
                OR other.total_seconds < merges.total_seconds)
    ) AS on_held_in_time_front,
    NOT EXISTS (
        SELECT 1
        FROM merges AS other
        WHERE other.experiment = merges.experiment
            AND other.subset = merges.subset
            AND other.generalization >= merges.generalization
            AND other.total_seconds <= merges.total_seconds
            AND (other.generalization > merges.generalization
                OR other.total_seconds < merges.total_seconds)
    ) AS on_generalization_time_front,
    subset
FROM merges
ORDER BY experiment, subset, held_in DESC
