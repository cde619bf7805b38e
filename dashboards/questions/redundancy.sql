-- How much of a task vector can be left out, before its expert gets worse?
SELECT method, density, options, held_in, held_in_se, normalized, validation
FROM selections
WHERE experiment = $experiment
    AND subset = $subset
    AND method IN ('magnitude_pruning', 'magnitude_masking')
    AND selection = 'exact'
ORDER BY method, density
