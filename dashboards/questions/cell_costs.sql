-- What did this cell cost: by itself, and with its share of every step that it needs?
SELECT
    stage,
    steps,
    own_seconds,
    own_flops,
    amortized_seconds,
    amortized_flops,
    unshared_seconds,
    unshared_flops
FROM charges
WHERE experiment = $experiment AND cell = $cell
ORDER BY amortized_seconds DESC
