-- Are the entries of largest magnitude worth more than as many at random?
SELECT
    method,
    selection,
    density,
    options,
    seeds,
    validation,
    held_in,
    held_in_se,
    generalization,
    generalization_se
FROM selections
WHERE experiment = $experiment AND subset = $subset
    AND method IN (
        SELECT method
        FROM selections
        WHERE experiment = $experiment AND subset = $subset
        GROUP BY method
        HAVING bool_or(selection = 'random') AND bool_or(selection <> 'random')
    )
ORDER BY method, selection, density
