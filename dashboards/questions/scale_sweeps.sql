-- How sensitive is each method to the scale of what it adds to the pretrained model?
SELECT
    method,
    kind,
    scale,
    options,
    validation,
    held_in,
    held_in_se,
    generalization,
    generalization_se,
    is_chosen
FROM scale_sweeps
WHERE experiment = $experiment AND subset = $subset
ORDER BY method, scale
