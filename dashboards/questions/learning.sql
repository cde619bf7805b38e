-- How did learning go, look by look?
SELECT
    method,
    options,
    seed,
    node,
    updates,
    loss,
    held_out,
    labels,
    collapsed,
    is_chosen
FROM learning_curves
WHERE experiment = $experiment AND subset = $subset
ORDER BY method, is_chosen DESC, options, seed, node, updates
