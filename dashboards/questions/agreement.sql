-- By how many tasks' masks is each entry of the merged task vector selected?
SELECT merge_by, density, mask_threshold, tasks, name, share
FROM mask_agreement
WHERE experiment = $experiment AND subset = $subset
ORDER BY merge_by, density, mask_threshold, tasks
