-- Which papers have numbers that ours can be put beside?
SELECT
    against_paper.paper,
    against_paper.suite,
    against_paper.model,
    against_paper.suite = any_value(experiments.suite) AS is_ours,
    bool_or((experiments.document -> 'suite' ->> 'model') = against_paper.model)
        IS TRUE AS is_our_model,
    count(DISTINCT against_paper.method) AS methods,
    count(DISTINCT against_paper.method) FILTER (
        against_paper.paper_gain IS NOT NULL
    ) AS gains  -- of them, those that the paper lets us compare with the pretrained model
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
