-- What is compared with one another over each subset of experts? Its merges, its experts
-- one by one, and the pretrained and the multitask model on the same held-in tasks.
SELECT
    subsets.experiment,
    subsets.subset,
    cells.cell,
    cells.kind,
    cells.method,
    cells.options,
    cells.swept,
    cells.seed,
    subsets.experts
FROM current_cells AS cells
JOIN subsets
    ON cells.experiment = subsets.experiment
    AND CASE
        WHEN cells.kind <> 'reference' THEN cells.experts = subsets.experts
        WHEN cells.method = 'individual'
            THEN list_contains(subsets.experts, cells.experts[1])
        ELSE true
    END
