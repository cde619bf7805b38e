-- Is it enough to remove what is of use to no task (k = 1), or also what is of use to one
-- alone (k = 2)? Means over the sets of so many experts, accuracies absolute and
-- normalized.
SELECT
    merge_by,
    agreement,
    size,
    count(*) AS samples,
    avg(held_in) AS held_in,
    avg(normalized) AS normalized,
    avg(unpruned_held_in) AS unpruned_held_in,
    avg(unpruned_normalized) AS unpruned_normalized
FROM consensus_thresholds
WHERE experiment = $experiment AND agreement IN (1, 2)
GROUP BY merge_by, agreement, size
ORDER BY merge_by, agreement, size
