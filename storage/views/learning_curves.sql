-- How did learning go, look by look? A collapse is a task that is answered with less than
-- half of the labels that it was answered with at the start.
SELECT
    entries.experiment,
    subsets.size,
    subsets.sample,
    entries.method,
    readable(entries.swept) AS options,  -- of those that were swept
    entries.seed,
    learning.node,               -- part of the tree; '': no tree, or its root
    learning.updates,
    learning.loss,               -- mean since the look before
    learning.held_out,           -- mean loss on examples held out
    learning.labels,             -- least share of a task's labels that are still given
    learning.collapsed,          -- tasks, at the end
    recipes.is_chosen,
    entries.subset
FROM entries
JOIN recipes USING (experiment, subset, method, options)
JOIN subsets USING (experiment, subset)
JOIN lineage ON lineage.child = entries.cell
JOIN learning ON learning.step = lineage.parent
ORDER BY
    entries.experiment, entries.subset, entries.method, options, entries.seed,
    learning.node, learning.updates
