-- Which coefficient has each expert's task vector in each parameter? Means over seeds.
SELECT
    method,
    options,
    task,
    place,
    parameter,
    layer_kind,
    depth,
    layers,
    avg(value) AS value,
    count(*) AS seeds
FROM learned_coefficients
WHERE experiment = $experiment AND subset = $subset
GROUP BY ALL
ORDER BY method, place, task
