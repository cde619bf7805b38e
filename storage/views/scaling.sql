-- What happens as more experts are merged? The leaderboard, averaged over the subsets of
-- each size, with the standard deviation between them.
SELECT
    experiment,
    size,
    method,
    any_value(kind) AS kind,
    count(*) AS samples,
    avg(held_in) AS held_in,
    stddev_samp(held_in) AS held_in_sd,
    avg(held_in_se) AS held_in_se,
    avg(generalization) AS generalization,
    stddev_samp(generalization) AS generalization_sd,
    avg(generalization_se) AS generalization_se,
    avg(normalized) AS normalized,
    stddev_samp(normalized) AS normalized_sd,
    avg(average_rank) AS average_rank
FROM leaderboard
GROUP BY experiment, size, method
ORDER BY experiment, method, size
