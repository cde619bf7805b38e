-- How does what it takes to store several tasks grow with their number?
SELECT
    CASE WHEN models = 'one' THEN 'pretrained' ELSE method END AS method,
    size,
    count(DISTINCT subset) AS samples,
    avg(bytes) AS bytes,
    avg(bits) / 8 AS paper_bytes
FROM storage_vs_accuracy
WHERE experiment = $experiment
    AND is_chosen
    AND (models = 'per task' OR method = 'pretrained')
GROUP BY ALL
ORDER BY method, size
