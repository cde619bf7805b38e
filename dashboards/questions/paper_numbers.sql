-- What does the paper report, and what did we measure?
WITH ours AS (
    UNPIVOT (
        SELECT method, held_in, generalization
        FROM leaderboard
        WHERE experiment = $experiment AND subset = 1
    )
    ON held_in, generalization
    INTO NAME role VALUE accuracy
)

SELECT
    papers.method,
    papers.role,
    papers.value AS paper_accuracy,
    100 * ours.accuracy AS accuracy,
    papers.source_table,
    papers.metric
FROM paper_results AS papers
LEFT JOIN ours USING (method, role)
WHERE papers.paper = $paper
    AND papers.suite = $paper_suite
    AND papers.model = $paper_model
    AND papers.task IS NULL
    AND papers.metric IN ('accuracy', 'task_metric')
    AND papers.setting = 'main'
ORDER BY papers.role DESC, papers.value DESC
