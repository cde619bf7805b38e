-- Which code, packages and machines made these numbers?
SELECT
    experiments.suite,
    experiments.definition,
    experiments.git_commit,
    experiments.git_dirty,
    experiments.versions,
    experiments.recorded_at,
    experiments.document,
    (
        SELECT count(*)
        FROM current_cells AS cells
        WHERE cells.experiment = $experiment AND cells.kind <> 'reference'
    ) AS cells,
    (
        SELECT count(DISTINCT scores.cell)
        FROM scores
        JOIN current_cells AS cells USING (cell)
        WHERE cells.experiment = $experiment AND cells.kind <> 'reference'
    ) AS scored,
    (
        SELECT count(DISTINCT scores.task)
        FROM scores
        JOIN current_cells AS cells USING (cell)
        WHERE cells.experiment = $experiment AND scores.role = 'held_in'
    ) AS held_in_tasks,
    (
        SELECT count(DISTINCT scores.task)
        FROM scores
        JOIN current_cells AS cells USING (cell)
        WHERE cells.experiment = $experiment AND scores.role = 'generalization'
    ) AS generalization_tasks,
    (
        SELECT string_agg(DISTINCT costs.device, ', ')
        FROM costs
        JOIN uses USING (step)
        WHERE uses.experiment = $experiment
    ) AS devices,
    (
        SELECT string_agg(DISTINCT left(costs.git_commit, 12), ', ')
        FROM costs
        JOIN uses USING (step)
        WHERE uses.experiment = $experiment
    ) AS commits
FROM experiments
WHERE experiments.experiment = $experiment
ORDER BY experiments.recorded_at DESC, experiments.definition DESC
LIMIT 1
