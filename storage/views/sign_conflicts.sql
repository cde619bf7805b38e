-- How often do experts want to move one entry in opposite directions, before and after
-- trimming, and how does that grow with the number of experts? Fractions.
SELECT
    profiles.experiment,
    profiles.size,
    min(profiles.sample) AS sample,
    conflicts.density,           -- fraction of each task vector kept; 1 is untrimmed
    any_value(conflicts.conflicting / conflicts.entries) AS conflicting,
    any_value(conflicts.redundant / conflicts.entries) AS redundant,  -- kept by nobody
    -- Of those that somebody keeps, those that several experts want to move, and differ.
    any_value(
        conflicts.conflicting / nullif(conflicts.entries - conflicts.redundant, 0)
    ) AS conflicting_of_kept,
    -- Of all that experts keep, what an election of signs drops.
    any_value(conflicts.outvoted / nullif(conflicts.kept, 0)) AS outvoted,
    profiles.experts,
    any_value(profiles.subset) AS subset
FROM conflicts
JOIN current_profiles AS profiles USING (profile)
GROUP BY
    profiles.experiment,
    profiles.size,
    profiles.experts,
    conflicts.density
ORDER BY
    profiles.experiment,
    profiles.size,
    sample,
    profiles.experts,
    conflicts.density
