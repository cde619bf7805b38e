-- Which data did each method need beside its experts, and how good is it?
SELECT
    method,
    kind,
    options,
    labelled,
    unlabelled,
    transductive,
    held_in,
    held_in_se,
    generalization,
    generalization_se
FROM budgets
WHERE experiment = $experiment AND subset = $subset
ORDER BY kind = 'reference', labelled, held_in DESC, method
