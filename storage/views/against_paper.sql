-- How do our methods compare with those of a paper, and what differs? Main results only:
-- means over tasks, options chosen by validation. Gains are over the pretrained model's
-- score, in points, and NULL where the paper does not give it.
WITH differing (paper, suite, differs) AS (
    VALUES
        (
            'realistic', 'domainnet',
            'experts: theirs are not published, ours are trained anew'
        ),
        (
            'realistic', 'cross_lingual',
            'experts: trained anew; prompts: our words, not their fork of promptsource; '
            'generalization: the 15 pairs of their code, where their text counts 17'
        ),
        (
            'ties', 'nlp7',
            'experts: theirs are not published; prompts: our words, not those of P3'
        ),
        (
            'ties', 'p3_11',
            'prompts: our words, so medians are over other templates; training: their '
            'paper has batches of 16 and patience 10, their code 8 x 16 and 5'
        ),
        (
            'ties', 'vision8',
            'RegMean: the same models give 71.8 here, 80.1 in the reproduction study and '
            '82.4 in fusion_bench, by which layers are measured and how'
        ),
        (
            're_ties', 'nlp7',
            'experts: fine-tuned anew by them too; prompts: our words, not those of P3'
        ),
        ('re_ties', 'p3_11', 'prompts: our words, so medians are over other templates'),
        (
            're_ties', 'vision8',
            'checkpoints: their expert of DTD is far above the original one'
        ),
        (
            'tall', 'nlp7',
            'splits: theirs validate on the end of training and test on the official '
            'validation split, as MaTS does; prompts: our words, not those of P3'
        ),
        ('tall', 'qa8', 'prompts: our words, not those of P3'),
        (
            'tall', 'vision8',
            'checkpoints: their expert of DTD had seen its test, until December 2024'
        ),
        (
            'tall', 'vision14',
            'checkpoints: their expert of DTD had seen its test, until December 2024'
        ),
        (
            'tall', 'vision20',
            'checkpoints: their expert of DTD had seen its test, until December 2024'
        ),
        (
            'supermerge', 'p3_11',
            'prompts: our words, so medians are over other templates; SuperMerge trains '
            'on the examples that options are chosen by'
        )
),

paper AS (
    SELECT papers.*, papers.value - pretrained.value AS gain
    FROM paper_results AS papers
    LEFT JOIN paper_results AS pretrained
        ON pretrained.method = 'pretrained'
        AND pretrained.setting = 'main'
        AND pretrained.task IS NULL
        AND pretrained.paper = papers.paper
        AND pretrained.source_table = papers.source_table
        AND pretrained.suite = papers.suite
        AND pretrained.model = papers.model
        AND pretrained.metric = papers.metric
        AND pretrained.role = papers.role
    WHERE papers.setting = 'main'
        AND papers.task IS NULL
        AND papers.metric IN ('accuracy', 'task_metric')
),

experiment AS (
    SELECT experiment, suite, document -> 'suite' ->> 'model' AS model
    FROM experiments
    QUALIFY row_number() OVER (PARTITION BY experiment ORDER BY recorded_at DESC) = 1
),

ours AS (
    UNPIVOT (
        SELECT
            board.experiment,
            board.method,
            100 * board.held_in AS held_in,
            100 * (board.held_in - pretrained.held_in) AS held_in_gain,
            100 * board.generalization AS generalization,
            100 * (board.generalization - pretrained.generalization)
                AS generalization_gain
        FROM leaderboard AS board
        JOIN leaderboard AS pretrained USING (experiment, subset)
        WHERE board.subset = 1 AND pretrained.method = 'pretrained'
    )
    ON (held_in, held_in_gain) AS 'held_in',
        (generalization, generalization_gain) AS 'generalization'
    INTO NAME role VALUE value, gain
)

SELECT
    ours.experiment,
    paper.paper,
    paper.suite,
    paper.model,
    ours.role,
    ours.method,
    ours.value,
    paper.value AS paper_value,
    ours.gain,
    paper.gain AS paper_gain,
    concat_ws(
        '; ',
        CASE
            WHEN experiment.suite IS DISTINCT FROM paper.suite
                THEN 'suite: theirs is ' || paper.suite
        END,
        CASE
            WHEN experiment.suite = paper.suite AND experiment.model <> paper.model
                THEN 'model: theirs is ' || paper.model
        END,
        CASE WHEN experiment.suite = paper.suite THEN differing.differs END,
        paper.note
    ) AS differs,
    paper.source_table
FROM ours
JOIN experiment USING (experiment)
JOIN paper USING (method, role)
LEFT JOIN differing ON differing.paper = paper.paper AND differing.suite = paper.suite
ORDER BY
    ours.experiment,
    paper.paper,
    paper.suite,
    paper.model,
    ours.role DESC,
    paper.value DESC,
    ours.method
