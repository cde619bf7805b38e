-- Is one method really better than another? Both on the same tasks, drawn anew 2,000
-- times.
SELECT
    compared.role,
    compared.method,
    compared.other,
    compared.difference,
    compared.low,
    compared.high,
    compared.ahead,
    compared.tasks
FROM bootstrap($experiment, $subset) AS compared
JOIN leaderboard AS board
    ON board.experiment = $experiment
    AND board.subset = $subset
    AND board.method = compared.method
ORDER BY
    compared.role DESC,
    board.kind,
    if(compared.role = 'held_in', board.held_in, board.generalization) DESC,
    compared.method,
    compared.ahead,
    compared.other
