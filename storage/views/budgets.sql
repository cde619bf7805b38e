-- Which data did each method need beside its experts, and how good is it? To compare on an
-- equal budget, filter by it. Options that were chosen need all validation labels of the
-- merged experts' tasks; what is learned or measured from the same split needs no others.
WITH validation AS (
    SELECT experiment, subset, max(examples) AS examples
    FROM (
        SELECT entries.experiment, entries.subset, entries.cell,
            sum(scores.examples) AS examples
        FROM entries
        JOIN scores USING (cell)
        WHERE entries.kind = 'merged' AND scores.split = 'validation'
        GROUP BY entries.experiment, entries.subset, entries.cell
    )
    GROUP BY experiment, subset
),

asked AS (  -- does any option of theirs come from other cells' scores?
    SELECT entries.experiment, entries.subset, entries.method, entries.options,
        bool_or(lineage.parent IN (SELECT cell FROM cells)) AS waits
    FROM entries
    JOIN lineage ON lineage.child = entries.cell
    GROUP BY ALL
),

tried AS (
    SELECT experiment, subset, method, count(*) AS recipes
    FROM recipes
    GROUP BY experiment, subset, method
)

SELECT
    own.experiment,
    own.size,
    own.sample,
    own.method,
    own.options,
    own.labelled + CASE
        WHEN own.kind <> 'reference' AND (tried.recipes > 1 OR asked.waits)
            THEN greatest(validation.examples - own.of_validation, 0)
        ELSE 0
    END::BIGINT AS labelled,     -- different examples whose labels were used
    own.unlabelled,              -- of which inputs alone were
    own.transductive,            -- whether they are the test's
    own.held_in,
    own.held_in_se,
    own.generalization,
    own.generalization_se,
    own.kind,
    own.subset
FROM budget_curve AS own
JOIN tried USING (experiment, subset, method)
LEFT JOIN asked
    ON asked.experiment = own.experiment
    AND asked.subset = own.subset
    AND asked.method = own.method
    AND asked.options = own.all_options
LEFT JOIN validation
    ON validation.experiment = own.experiment AND validation.subset = own.subset
WHERE own.is_chosen
ORDER BY own.experiment, own.subset, labelled, own.held_in DESC
