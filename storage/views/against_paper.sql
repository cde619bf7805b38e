-- Do our methods come in the order in which they came in a paper? Accuracies are over the
-- pretrained model's, in points, since tasks and models differ.
WITH paper AS (
    SELECT
        papers.paper,
        papers.suite,
        papers.method,
        papers.role,
        papers.value - pretrained.value AS gain
    FROM paper_results AS papers
    JOIN paper_results AS pretrained USING (paper, source_table, suite, setting, role)
    WHERE papers.setting = 'main'
        AND papers.metric = 'accuracy'
        AND pretrained.metric = 'accuracy'
        AND pretrained.method = 'pretrained'
),

ours AS (
    UNPIVOT (
        SELECT
            board.experiment,
            board.method,
            100 * (board.held_in - pretrained.held_in) AS held_in,
            100 * (board.generalization - pretrained.generalization) AS generalization
        FROM leaderboard AS board
        JOIN leaderboard AS pretrained USING (experiment, subset)
        WHERE board.subset = 1 AND pretrained.method = 'pretrained'
    )
    ON held_in, generalization
    INTO NAME role VALUE gain
)

SELECT
    ours.experiment,
    paper.paper,
    paper.suite,
    ours.role,
    ours.method,
    ours.gain,
    paper.gain AS paper_gain
FROM ours
JOIN paper USING (method, role)
ORDER BY ours.experiment, paper.paper, paper.suite, ours.role DESC, paper.gain DESC
