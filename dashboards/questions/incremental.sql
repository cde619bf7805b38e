-- What happens to each expert's task as others are merged in, one after another?
SELECT
    series,
    merged_in,
    task,
    place,
    size,
    method,
    kind,
    accuracy,
    accuracy_se,
    individual
FROM incremental
WHERE experiment = $experiment
ORDER BY series, place, method, size
