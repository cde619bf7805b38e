-- How much does each option matter? Accuracy along one option, with the others as chosen.
WITH swept AS (
    SELECT
        recipes.*,
        unnest(json_keys(recipes.swept)) AS option
    FROM recipes
    WHERE recipes.kind <> 'reference'
),

-- The other swept options: only recipes that agree in them lie on one line.
lines AS (
    SELECT *, json_merge_patch(swept, json_object(option, NULL)) AS others
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
