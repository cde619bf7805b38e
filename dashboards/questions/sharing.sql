-- What did each prerequisite cost, and how is it divided among those that needed it?
SELECT
    stage,
    method,
    count(DISTINCT cell) AS cells,
    sum(amortized_seconds) AS seconds,
    sum(amortized_flops) AS flops
FROM amortized_costs
WHERE experiment = $experiment AND stage NOT IN ('merge', 'evaluate')
GROUP BY stage, method
ORDER BY stage, seconds DESC
