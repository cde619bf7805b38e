-- How much does each option matter? Accuracy along one option, with the others as chosen.
WITH swept AS (
    SELECT
        recipes.*,
        unnest(json_keys(recipes.swept)) AS option
    FROM recipes
    WHERE recipes.kind <> 'reference'
),

-- Only recipes that agree in the other options lie on one line: those that were swept,
-- and words, in which blocks of a grid differ. Other numbers may be what cells with
-- other values did best with.
lines AS (
    SELECT
        *,
        list_transform(
            list_filter(
                json_keys(options),
                LAMBDA name: name <> option AND (
                    json_exists(swept, name) OR json_type(options, name) = 'VARCHAR'
                )
            ),
            LAMBDA name: [name, options ->> name]
        ) AS others
    FROM swept
)

SELECT
    lines.experiment,
    subsets.size,
    subsets.sample,
    lines.method,
    lines.option,
    short(lines.swept ->> lines.option) AS value,
    TRY_CAST(lines.swept ->> lines.option AS DOUBLE) AS number,  -- NULL for words
    row_number() OVER (
        PARTITION BY lines.experiment, lines.subset, lines.method, lines.option
        ORDER BY number, value
    ) - 1 AS place,                                              -- among the values
    lines.validation,
    lines.held_in,
    lines.held_in_se,
    lines.generalization,
    lines.generalization_se,
    lines.is_chosen,
    lines.subset
FROM lines
JOIN subsets USING (experiment, subset)
JOIN lines AS chosen
    ON chosen.experiment = lines.experiment
    AND chosen.subset = lines.subset
    AND chosen.method = lines.method
    AND chosen.option = lines.option
    AND chosen.others = lines.others
    AND chosen.is_chosen
ORDER BY lines.experiment, lines.subset, lines.method, lines.option, number, value
