-- How many tasks must have a use for an entry of the merged task vector, for it to be
-- worth keeping?
SELECT
    method,
    merge_by,
    agreement,
    options,
    validation,
    held_in,
    held_in_se,
    generalization,
    generalization_se,
    unpruned_held_in,
    unpruned_generalization
FROM consensus_thresholds
WHERE experiment = $experiment AND subset = $subset
ORDER BY merge_by, agreement
