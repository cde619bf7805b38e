-- Which tables, views and macros are there, and what does each of them answer?
SELECT
    relations.name,
    relations.kind,
    relations.comment AS about,
    string_agg(columns.column_name, ', ' ORDER BY columns.column_index) AS columns
FROM (
    SELECT table_name AS name, 'table' AS kind, comment
    FROM duckdb_tables()
    WHERE database_name = current_database()
    UNION ALL
    SELECT view_name, 'view', comment
    FROM duckdb_views()
    WHERE database_name = current_database() AND NOT internal
) AS relations
JOIN duckdb_columns() AS columns
    ON columns.table_name = relations.name
    AND columns.database_name = current_database()
GROUP BY ALL
UNION ALL
SELECT
    function_name || '(' || array_to_string(parameters, ', ') || ')',
    'macro',
    comment,
    NULL
FROM duckdb_functions()
WHERE database_name = current_database()
    AND function_type = 'table_macro'
    AND NOT internal
ORDER BY kind DESC, name
