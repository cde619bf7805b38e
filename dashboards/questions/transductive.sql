-- Which methods were adapted to the inputs that they are scored on, over which experts?
SELECT DISTINCT method, subset, transductive
FROM leaderboard
WHERE experiment = $experiment AND transductive
ORDER BY method, subset
