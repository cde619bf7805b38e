-- Which experts were merged with one another?
SELECT subset, size, sample, experts
FROM subsets
WHERE experiment = $experiment
ORDER BY subset
