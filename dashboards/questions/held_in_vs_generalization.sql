-- Do methods that do well on held-in tasks generalize better?
SELECT
    points.method,
    points.kind,
    points.options,
    points.held_in,
    points.held_in_se,
    points.generalization,
    points.generalization_se,
    coalesce(pareto.on_front, false) AS on_front,
    points.pearson_r,
    points.pearson_p,
    points.methods
FROM held_in_vs_generalization AS points
LEFT JOIN pareto USING (experiment, subset, method)
WHERE experiment = $experiment AND subset = $subset
ORDER BY points.held_in DESC
