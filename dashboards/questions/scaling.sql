-- What happens as more experts are merged?
SELECT
    method,
    kind,
    size,
    samples,
    held_in,
    held_in_sd,
    generalization,
    generalization_sd,
    normalized,
    normalized_sd
FROM scaling
WHERE experiment = $experiment AND method <> 'individual'
ORDER BY kind, method, size
