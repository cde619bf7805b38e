-- Which papers have numbers that ours can be put beside?
SELECT
    against_paper.paper,
    against_paper.suite,
    against_paper.model,
    against_paper.suite = any_value(experiments.suite) AS is_ours,
    count(DISTINCT against_paper.method) AS methods
FROM against_paper
JOIN experiments USING (experiment)
WHERE against_paper.experiment = $experiment
GROUP BY against_paper.paper, against_paper.suite, against_paper.model
ORDER BY
    is_ours DESC,
    methods DESC,
    against_paper.paper,
    against_paper.suite,
    against_paper.model
