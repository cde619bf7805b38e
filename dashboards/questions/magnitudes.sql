-- How large are merged entries, and what made them small?
SELECT
    density,
    grouping,
    level,
    merging,
    entries,
    mean,
    deviation,
    to_average
FROM merged_magnitudes
WHERE experiment = $experiment AND subset = $subset AND grouping <> 'all'
ORDER BY density, grouping, level, merging
