"""How much accuracy is kept for how much storage, by hand."""

import pytest


@pytest.fixture
def database(tmp_path, by_hand):
    """Two experts, their masks at two thresholds, and merges into one model."""

    def stored(name, **parts):
        return [
            {"table": "storage", "cell": name, "part": part, "bits": b, "bytes": size}
            for part, (b, size) in parts.items()
        ]

    def masked(name, threshold, accuracies, validation):
        swept = {"mask_threshold": threshold}
        scores = zip(by_hand.HELD_IN, accuracies, strict=True)
        return [
            by_hand.cell(name, "tall_masks", swept, kind="per_task"),
            *(by_hand.score(name, task, correct) for task, correct in scores),
            *(
                by_hand.score(name, task, validation, "validation")
                for task in by_hand.HELD_IN
            ),
            *by_hand.lineage(name, "xa", "xb", "base"),
        ]

    found = by_hand.records()
    found["5"] += stored("pre", model=(3200, 400))
    found["6"] += stored("ia", experts=(2240, 280), frozen=(960, 120))
    found["7"] += stored("ib", experts=(2240, 280), frozen=(960, 120))
    for name, threshold, accuracies, validation, size in (
        ("low", 0.2, (90, 40), 60, 9),
        ("high", 0.6, (81, 72), 70, 4),
    ):
        found[name] = [
            *masked(name, threshold, accuracies, validation),
            *stored(
                name,
                pretrained=(3200, 400),
                task_vector=(2240, 200),
                masks=(140, size),
            ),
        ]
    made = by_hand.results(tmp_path, by_hand.Ledger(found))
    made.refresh()
    return made


def ask(database, columns, where="true"):
    sql = f"SELECT {columns} FROM storage_vs_accuracy WHERE {where} ORDER BY ALL"
    return database.query(sql)[1]


def test_frozen_numbers_of_experts_are_counted_once(database):
    experts = ask(database, "bits, bytes, normalized", "method = 'individual'")
    assert experts == [(2 * 2240 + 960, 2 * 280 + 120, 1)]


def test_parts_of_masks_add_up_and_accuracy_is_that_of_the_experts(database):
    found = ask(database, "is_chosen, bits, bytes, normalized", "kind = 'per_task'")
    assert found == [
        (False, 5580, 609, pytest.approx((90 / 90 + 40 / 80) / 2)),
        (True, 5580, 604, pytest.approx((81 / 90 + 72 / 80) / 2)),
    ]


def test_storage_is_also_a_fraction_of_the_experts(database):
    found = ask(database, "bits_of_experts, bytes_of_experts", "options LIKE '%0.6'")
    assert found == [(pytest.approx(5580 / 5440), pytest.approx(604 / 680))]


def test_one_merged_model_takes_what_the_pretrained_model_does(database):
    found = ask(database, "method, bits, bytes, models", "kind = 'merged'")
    assert found == [
        (method, 3200, 400, "one")
        for method in ("average", "regmean", "task_arithmetic")
    ]


def test_without_rows_of_storage_there_is_no_answer(small):
    assert ask(small, "*") == []
