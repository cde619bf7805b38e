-- How often do experts want to move one entry in opposite directions?
SELECT
    size,
    sample,
    density,
    conflicting,
    redundant,
    conflicting_of_kept,
    outvoted,
    subset
FROM sign_conflicts
WHERE experiment = $experiment
ORDER BY size, sample, subset, density
