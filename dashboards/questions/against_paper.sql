-- Do the methods come in the order in which they came in the paper?
SELECT method, role, gain, paper_gain, differs, paper, suite, model
FROM against_paper
WHERE experiment = $experiment
    AND paper = $paper
    AND suite = $paper_suite
    AND model = $paper_model
    AND paper_gain IS NOT NULL
    AND method NOT IN ('pretrained', 'multitask', 'individual')
ORDER BY role DESC, paper_gain DESC
