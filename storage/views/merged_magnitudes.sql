-- How large are merged entries if experts are averaged, trimmed, if signs are elected, or
-- both, and what made them small: experts that hardly change an entry, or that disagree?
SELECT
    profiles.experiment,
    profiles.size,
    min(profiles.sample) AS sample,
    magnitudes.density,          -- of what is trimmed
    magnitudes.grouping,         -- all; kept_by: experts that keep an entry; agreement:
                                 -- share of the more frequent sign
    magnitudes.level,            -- that number or share
    magnitudes.merging,          -- average, trimmed, elected, both
    any_value(magnitudes.entries) AS entries,
    any_value(magnitudes.mean) AS mean,            -- magnitude
    any_value(magnitudes.deviation) AS deviation,  -- of magnitudes
    any_value(average.mean) AS average,            -- what averaging makes of them
    any_value(magnitudes.mean / nullif(average.mean, 0)) AS to_average,
    profiles.experts,
    any_value(profiles.subset) AS subset
FROM magnitudes
JOIN current_profiles AS profiles USING (profile)
JOIN magnitudes AS average
    ON average.profile = magnitudes.profile
    AND average.density = magnitudes.density
    AND average.grouping = magnitudes.grouping
    AND average.level = magnitudes.level
    AND average.merging = 'average'
GROUP BY
    profiles.experiment,
    profiles.size,
    profiles.experts,
    magnitudes.density,
    magnitudes.grouping,
    magnitudes.level,
    magnitudes.merging
ORDER BY
    profiles.experiment,
    profiles.size,
    sample,
    profiles.experts,
    magnitudes.density,
    magnitudes.grouping,
    magnitudes.level,
    magnitudes.merging
