-- How much memory did each method's best merge take, and what was measured for it? Bytes:
-- on an accelerator the most that the step held, else the most that its process had held
-- by the end of the step, which an earlier one may have needed.
SELECT
    recipes.experiment,
    subsets.size,
    subsets.sample,
    recipes.method,
    recipes.kind,
    costs.stage,
    max(costs.peak_memory) AS peak_memory,
    recipes.subset
FROM recipes
JOIN subsets USING (experiment, subset)
JOIN entries USING (experiment, subset, method, options)
JOIN uses USING (experiment, cell)
JOIN costs USING (step)
WHERE recipes.is_chosen
    AND recipes.kind <> 'reference'
    AND costs.peak_memory > 0
    AND costs.stage NOT IN ('data', 'pretrain', 'train', 'multitask', 'evaluate')
GROUP BY ALL
ORDER BY recipes.experiment, recipes.subset, peak_memory DESC, recipes.method
