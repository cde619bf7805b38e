-- How much memory did each method's best merge take, and what was measured for it?
SELECT method, kind, stage, peak_memory
FROM memory_peaks
WHERE experiment = $experiment AND subset = $subset
ORDER BY peak_memory DESC, method, stage
