-- What had to be there before anything was merged, and how many merges shared it?
SELECT stage, steps, seconds, flops, examples, bytes, cells
FROM prerequisites
WHERE experiment = $experiment
