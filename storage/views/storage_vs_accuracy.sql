-- How much accuracy is kept for how much storage? Every recipe that yields a model for
-- each task, beside merges into one model, which take as much as the pretrained model,
-- and the individual experts. Bits are by the TALL-masks paper's formulas; bytes are
-- those of files, with masks and numbers coded.
WITH totals AS (
    SELECT cell, sum(bits) AS bits, sum(bytes) AS bytes
    FROM storage
    GROUP BY cell
),

experts AS (  -- what no expert changes is stored once
    SELECT
        entries.experiment,
        entries.subset,
        sum(bits) FILTER (part = 'experts') + max(bits) FILTER (part = 'frozen') AS bits,
        sum(bytes) FILTER (part = 'experts') + max(bytes) FILTER (part = 'frozen')
            AS bytes
    FROM entries
    JOIN storage USING (cell)
    WHERE entries.method = 'individual'
    GROUP BY entries.experiment, entries.subset
),

one AS (
    SELECT entries.experiment, entries.subset, totals.bits, totals.bytes
    FROM entries
    JOIN totals USING (cell)
    WHERE entries.method = 'pretrained'
),

stored AS (
    SELECT
        recipes.*,
        CASE
            WHEN recipes.method = 'individual' THEN experts.bits
            WHEN recipes.kind = 'per_task' THEN totals.bits
            ELSE one.bits
        END AS bits,
        CASE
            WHEN recipes.method = 'individual' THEN experts.bytes
            WHEN recipes.kind = 'per_task' THEN totals.bytes
            ELSE one.bytes
        END AS bytes,
        experts.bits AS experts_bits,
        experts.bytes AS experts_bytes
    FROM recipes
    JOIN experts USING (experiment, subset)
    LEFT JOIN one USING (experiment, subset)
    LEFT JOIN totals ON recipes.first_cell = totals.cell
)

SELECT
    experiment,
    subsets.size,                   -- number of experts
    subsets.sample,                 -- nested sample that they belong to; 0: none
    method,
    CASE
        WHEN kind = 'per_task' OR method = 'individual' THEN 'per task'
        ELSE 'one'
    END AS models,                  -- one for all tasks, or one for each
    readable(swept) AS options,     -- of those that were swept
    is_chosen,                      -- whether held-in validation chose them
    held_in,                        -- mean test accuracy over the experts' tasks
    held_in_se,                     -- its standard error
    normalized,                     -- mean of accuracy / individual expert's accuracy
    bits,                           -- by the paper's formula
    bytes,                          -- as stored
    bits / experts_bits AS bits_of_experts,     -- as a fraction of the experts' own
    bytes / experts_bytes AS bytes_of_experts,
    kind,
    subset
FROM stored
JOIN subsets USING (experiment, subset)
WHERE bytes IS NOT NULL
    AND (is_chosen OR kind = 'per_task')
ORDER BY experiment, subset, bytes, normalized DESC, options
