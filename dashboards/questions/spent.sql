-- Where did the time go?
SELECT stage, sum(amortized_seconds) AS seconds, sum(amortized_flops) AS flops
FROM amortized_costs
WHERE experiment = $experiment
GROUP BY stage
ORDER BY seconds DESC
