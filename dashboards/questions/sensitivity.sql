-- How much does each option matter?
SELECT
    method,
    option,
    value,
    number,
    place,
    validation,
    held_in,
    held_in_se,
    generalization,
    generalization_se,
    is_chosen
FROM sensitivity
WHERE experiment = $experiment AND subset = $subset
ORDER BY method, option, number, value
