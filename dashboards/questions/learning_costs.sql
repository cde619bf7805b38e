-- What does it take to learn, beside a multitask model and merges that learn nothing?
SELECT
    method,
    stage,
    trained,
    together,
    labelled,
    unlabelled,
    paper_memory,
    peak_memory,
    epochs,
    flops_per_epoch,
    flops,
    seconds
FROM learning_costs
WHERE experiment = $experiment AND subset = $subset
ORDER BY stage = 'merge', method, stage
