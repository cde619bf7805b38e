-- What happens to each expert's task as others are merged in, one after another? For
-- every order of experts that an experiment gives, each method with the options chosen
-- over so many.
WITH latest AS (
    SELECT experiment, document
    FROM experiments
    QUALIFY row_number() OVER (
        PARTITION BY experiment ORDER BY recorded_at DESC, definition DESC
    ) = 1
),

blocks AS (
    SELECT
        experiment,
        unnest(CAST(document -> '$.grid[*].subsets' AS JSON[])) AS subsets
    FROM latest
),

orders AS (
    SELECT
        experiment,
        experts,
        row_number() OVER (PARTITION BY experiment ORDER BY experts) AS series
    FROM (
        SELECT experiment, CAST(subsets -> 'incremental' AS VARCHAR[]) AS experts
        FROM blocks
        WHERE json_type(subsets, '$.incremental') = 'ARRAY'
        UNION
        SELECT experiment, unnest(CAST(subsets -> '$.orders.given' AS VARCHAR[][]))
        FROM blocks
        WHERE json_type(subsets, '$.orders.given') = 'ARRAY'
    )
),

prefixes AS (
    SELECT *, unnest(range(2, len(experts) + 1)) AS size
    FROM orders
)

SELECT
    prefixes.experiment,
    prefixes.series,
    prefixes.experts AS merged_in,    -- the whole order
    merged.task,
    list_position(prefixes.experts, merged.task) AS place,  -- of its expert in it
    prefixes.size,
    merged.method,
    merged.kind,
    merged.accuracy,
    merged.accuracy_se,
    expert.accuracy AS individual,
    merged.accuracy / nullif(expert.accuracy, 0) AS normalized,
    subsets.subset
FROM prefixes
JOIN subsets
    ON subsets.experiment = prefixes.experiment
    AND list_sort(subsets.experts) = list_sort(prefixes.experts[:prefixes.size])
JOIN task_accuracies AS merged
    ON merged.experiment = subsets.experiment
    AND merged.subset = subsets.subset
    AND merged.role = 'held_in'
    AND merged.kind <> 'reference'
JOIN task_accuracies AS expert
    ON expert.experiment = merged.experiment
    AND expert.subset = merged.subset
    AND expert.task = merged.task
    AND expert.method = 'individual'
ORDER BY prefixes.experiment, series, place, merged.method, prefixes.size
