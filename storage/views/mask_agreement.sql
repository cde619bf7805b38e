-- How many entries of the merged task vector are of use to no task (catastrophic), to one
-- (selfish), to several, to all (universal), by the masks of TALL-masks? Fractions.
SELECT
    profiles.experiment,
    profiles.size,
    min(profiles.sample) AS sample,
    agreements.merge_by,         -- what is masked: task_arithmetic, or ties
    agreements.density,          -- fraction of each task vector kept before merging
    agreements.mask_threshold,   -- of all masks
    agreements.tasks,            -- whose masks select an entry
    any_value(agreements.entries / total.entries) AS share,
    CASE agreements.tasks
        WHEN 0 THEN 'catastrophic'
        WHEN 1 THEN 'selfish'
        WHEN profiles.size THEN 'universal'
        ELSE 'general'
    END AS name,
    profiles.experts,
    any_value(profiles.subset) AS subset
FROM agreements
JOIN current_profiles AS profiles USING (profile)
JOIN conflicts AS total
    ON total.profile = agreements.profile AND total.density = 1
GROUP BY
    profiles.experiment,
    profiles.size,
    profiles.experts,
    agreements.merge_by,
    agreements.density,
    agreements.mask_threshold,
    agreements.tasks
ORDER BY
    profiles.experiment,
    profiles.size,
    sample,
    profiles.experts,
    agreements.merge_by,
    agreements.density,
    agreements.mask_threshold,
    agreements.tasks
