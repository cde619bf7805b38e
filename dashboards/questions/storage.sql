-- How much of the experts' accuracy is kept for how much storage?
SELECT
    method,
    options,
    kind,
    models,
    is_chosen,
    held_in,
    held_in_se,
    normalized,
    bits,
    bytes,
    bits_of_experts,
    bytes_of_experts,
    is_chosen
        AND (kind <> 'reference' OR method = 'individual')
        AND NOT EXISTS (
            SELECT 1
            FROM storage_vs_accuracy AS other
            WHERE other.experiment = stored.experiment
                AND other.subset = stored.subset
                AND other.is_chosen
                AND (other.kind <> 'reference' OR other.method = 'individual')
                AND other.bytes <= stored.bytes
                AND other.normalized >= stored.normalized
                AND (other.bytes < stored.bytes OR other.normalized > stored.normalized)
        ) AS on_front
FROM storage_vs_accuracy AS stored
WHERE experiment = $experiment AND subset = $subset
ORDER BY bytes, method, options
