-- How much does each task's mask select, and what accuracy does that restore?
SELECT
    merge_by,
    density,
    mask_threshold,
    task,
    share,
    accuracy,
    normalized,
    is_chosen
FROM mask_shares
WHERE experiment = $experiment AND subset = $subset
ORDER BY merge_by, density, mask_threshold, task
