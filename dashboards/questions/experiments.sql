-- What has been run here, and how far is it?
SELECT
    newest.experiment,
    newest.suite,
    newest.document ->> 'description' AS description,
    newest.recorded_at,
    count(cells.cell) AS cells,
    count(scored.cell) AS scored
FROM (
    SELECT *
    FROM experiments
    QUALIFY row_number() OVER (
        PARTITION BY experiment ORDER BY recorded_at DESC, definition DESC
    ) = 1
) AS newest
LEFT JOIN current_cells AS cells
    ON cells.experiment = newest.experiment AND cells.kind <> 'reference'
LEFT JOIN (SELECT DISTINCT cell FROM scores) AS scored ON scored.cell = cells.cell
GROUP BY ALL
ORDER BY newest.recorded_at DESC, newest.experiment
