-- By how much would one method be ahead of another on tasks drawn anew?
SELECT one.role, one.replicate, one.accuracy - other.accuracy AS difference
FROM bootstrap_replicates($experiment, $subset) AS one
JOIN bootstrap_replicates($experiment, $subset) AS other USING (role, replicate)
WHERE one.method = $one AND other.method = $other
ORDER BY one.role DESC, one.replicate
