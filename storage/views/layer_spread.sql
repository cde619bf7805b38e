-- How are the entries of each expert's task vector spread, parameter by parameter?
SELECT
    profiles.experiment,
    profiles.experts[1] AS task,
    vectors.parameter,
    vectors.place,               -- in the model's order, from 0
    vectors.layer_kind,
    vectors.depth,               -- the layer, from 0; NULL outside the layers
    vectors.layers,              -- how many there are in its stack
    vectors.entries,
    vectors.unchanged / vectors.entries AS unchanged,
    vectors.norm,
    vectors.deviation,
    vectors.magnitude,           -- mean of the entries' magnitudes
    vectors.quantiles[14] AS median,
    vectors.quantiles[9] AS lower_quartile,
    vectors.quantiles[19] AS upper_quartile,
    vectors.quantiles
FROM task_vectors AS vectors
JOIN current_profiles AS profiles USING (profile)
ORDER BY profiles.experiment, task, vectors.place
