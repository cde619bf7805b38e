-- How much of the merged task vector does each task's mask select, and what accuracy does
-- the selected part restore? At each threshold; `is_chosen` is the task's best on its
-- validation split, among the thresholds that were merged and evaluated.
WITH selected AS (
    SELECT
        profiles.experiment,
        profiles.size,
        min(profiles.sample) AS sample,
        masks.merge_by,
        masks.density,
        masks.mask_threshold,
        masks.task,
        any_value(masks.entries / total.entries) AS share,
        any_value(profiles.subset) AS subset
    FROM masks
    JOIN current_profiles AS profiles USING (profile)
    JOIN conflicts AS total ON total.profile = masks.profile AND total.density = 1
    GROUP BY
        profiles.experiment,
        profiles.size,
        profiles.experts,
        masks.merge_by,
        masks.density,
        masks.mask_threshold,
        masks.task
),

-- The restored models that differ in nothing but their threshold.
restored AS (
    SELECT
        entries.experiment,
        entries.subset,
        entries.options ->> 'merge_by' AS merge_by,
        CAST(entries.options ->> 'density' AS DOUBLE) AS density,
        TRY_CAST(entries.options ->> 'mask_threshold' AS DOUBLE) AS mask_threshold,
        scores.task,
        avg(scores.value) FILTER (scores.split = 'validation') AS validation,
        avg(scores.value) FILTER (scores.split = 'test') AS accuracy
    FROM entries
    JOIN scores USING (cell)
    WHERE entries.method = 'tall_masks'
        AND CAST(entries.options ->> 'scale' AS DOUBLE) = 1
        AND entries.options ->> 'comparison' = 'inclusive'
    GROUP BY ALL
),

individual AS (
    SELECT cells.experiment, scores.task, any_value(scores.value) AS individual
    FROM current_cells AS cells
    JOIN scores USING (cell)
    WHERE cells.method = 'individual'
        AND scores.task = cells.experts[1]
        AND scores.split = 'test'
    GROUP BY cells.experiment, scores.task
)

SELECT
    selected.experiment,
    selected.size,
    selected.sample,
    selected.merge_by,
    selected.density,
    selected.mask_threshold,
    selected.task,
    selected.share,
    restored.validation,
    restored.accuracy,
    restored.accuracy / nullif(individual.individual, 0) AS normalized,
    restored.validation IS NOT NULL AND row_number() OVER (
        PARTITION BY
            selected.experiment,
            selected.subset,
            selected.merge_by,
            selected.density,
            selected.task
        ORDER BY restored.validation DESC NULLS LAST, selected.mask_threshold
    ) = 1 AS is_chosen,
    selected.subset
FROM selected
LEFT JOIN restored
    ON restored.experiment = selected.experiment
    AND restored.subset = selected.subset
    AND restored.merge_by = selected.merge_by
    AND restored.mask_threshold = selected.mask_threshold
    AND restored.task = selected.task
    -- Task arithmetic keeps all entries, whatever the density says.
    AND (
        selected.merge_by = 'task_arithmetic' OR restored.density = selected.density
    )
LEFT JOIN individual
    ON individual.experiment = selected.experiment AND individual.task = selected.task
ORDER BY
    selected.experiment,
    selected.size,
    selected.sample,
    selected.subset,
    selected.merge_by,
    selected.density,
    selected.mask_threshold,
    selected.task
