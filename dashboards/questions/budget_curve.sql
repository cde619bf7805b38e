-- How good is a method that learns from more labels or fewer, if others choose nothing?
-- Of recipes with equal budgets, the one that did best on validation.
SELECT method, options, labelled, transductive, held_in, held_in_se,
    generalization, generalization_se
FROM budget_curve
WHERE experiment = $experiment AND subset = $subset
    AND kind = 'merged' AND labelled > 0
QUALIFY row_number() OVER (
    PARTITION BY method, labelled ORDER BY validation DESC NULLS LAST, options
) = 1
ORDER BY method, labelled
