-- How much of each expert's accuracy does each merge keep on the expert's task?
SELECT
    kept.method,
    kept.task,
    kept.accuracy,
    kept.individual,
    kept.normalized
FROM normalized AS kept
JOIN leaderboard AS board USING (experiment, subset, method)
WHERE experiment = $experiment AND subset = $subset
ORDER BY board.kind, board.held_in DESC, kept.task
