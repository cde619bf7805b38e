-- How are the entries of each expert's task vector spread, layer by layer?
SELECT
    task,
    place,
    parameter,
    layer_kind,
    depth,
    layers,
    entries,
    norm,
    deviation,
    median,
    quantiles
FROM layer_spread
WHERE experiment = $experiment
ORDER BY task, place
