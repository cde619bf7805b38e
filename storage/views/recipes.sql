-- How good and how costly is every recipe over every subset of experts? Seeds are
-- averaged, and so are individual experts. Held-in validation alone chooses the options.
WITH cost AS (
    SELECT
        experiment,
        cell,
        sum(own_flops) FILTER (stage = 'merge') AS merge_flops,
        sum(own_paper_flops) FILTER (stage = 'merge') AS merge_paper_flops,
        sum(own_seconds) FILTER (stage = 'merge') AS merge_seconds,
        coalesce(
            sum(unshared_flops) FILTER (
                stage IN (
                    'fisher', 'gram', 'gradient', 'trim', 'norms', 'learn', 'few_shot'
                )
            ),
            0
        ) AS statistics_flops,
        coalesce(
            sum(unshared_seconds) FILTER (
                stage IN (
                    'fisher', 'gram', 'gradient', 'trim', 'norms', 'learn', 'few_shot'
                )
            ),
            0
        ) AS statistics_seconds,
        sum(amortized_seconds) AS amortized_seconds,
        sum(unshared_seconds) AS unshared_seconds
    FROM charges
    GROUP BY experiment, cell
),

summary AS (
    SELECT
        experiment,
        subset,
        kind,
        method,
        options,
        any_value(swept) AS swept,
        count(*) AS cells,
        first(cell ORDER BY seed, cell) AS first_cell,
        count(DISTINCT seed) AS seeds,
        round(avg(validation), 12) AS validation,
        round(avg(held_in), 12) AS held_in,
        -- Experts have a task each; seeds share all their test examples.
        CASE
            WHEN method = 'individual' THEN sqrt(sum(held_in_se ** 2)) / count(*)
            ELSE avg(held_in_se)
        END AS held_in_se,
        round(avg(generalization), 12) AS generalization,
        avg(generalization_se) AS generalization_se,
        avg(normalized) AS normalized,
        avg(merge_flops) AS merge_flops,
        avg(merge_paper_flops) AS merge_paper_flops,
        avg(merge_seconds) AS merge_seconds,
        CASE WHEN kind <> 'reference' THEN avg(statistics_flops) END AS statistics_flops,
        CASE WHEN kind <> 'reference' THEN avg(statistics_seconds) END
            AS statistics_seconds,
        -- One needs all individual experts, but only one seed.
        sum(amortized_seconds) / count(DISTINCT seed) AS amortized_seconds,
        avg(unshared_seconds) AS unshared_seconds
    FROM entries
    JOIN accuracies USING (experiment, subset, cell)
    LEFT JOIN cost USING (experiment, cell)
    GROUP BY experiment, subset, kind, method, options
)

SELECT
    *,
    row_number() OVER (
        PARTITION BY experiment, subset, method
        ORDER BY validation DESC NULLS LAST, merge_flops, options
    ) = 1 AS is_chosen
FROM summary
