-- How are each method's learned coefficients spread? Near is within 0.05: near the bound
-- is where a bound keeps them from growing, which not every recipe has.
SELECT
    learned.method,
    learned.options,
    count(*) AS coefficients,
    count(DISTINCT learned.seed) AS seeds,
    min(learned.value) AS least,
    quantile_cont(learned.value, 0.25) AS lower_quartile,
    median(learned.value) AS median,
    quantile_cont(learned.value, 0.75) AS upper_quartile,
    max(learned.value) AS most,
    avg((learned.value < 0)::INT) AS negative,
    avg((abs(learned.value) <= 0.05)::INT) AS near_zero,
    CASE recipes.options ->> 'bound'
        WHEN 'tanh' THEN avg((abs(learned.value) >= 0.95)::INT)
        WHEN 'unit' THEN avg((learned.value >= 0.95)::INT)
    END AS near_bound
FROM learned_coefficients AS learned
JOIN recipes USING (experiment, subset, method)
WHERE recipes.is_chosen AND experiment = $experiment AND subset = $subset
GROUP BY learned.method, learned.options, recipes.options
ORDER BY learned.method
