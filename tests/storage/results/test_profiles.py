"""Views about task vectors, on the profiles of two experts written by hand."""

import pytest


@pytest.fixture
def ask(by_hand, tmp_path):
    """Build a database from the small experiment and more rows; give what answers."""

    def answer(rows, sql):
        ledger = by_hand.Ledger(by_hand.records() | {"profiles": rows})
        database = by_hand.results(tmp_path, ledger)
        database.refresh()
        columns, found = database.query(sql)
        return [dict(zip(columns, row, strict=True)) for row in found]

    return answer


def profiled(key, experts, *, kind="profile", sample=0, definition="now"):
    return {
        "table": "profiles",
        "experiment": "small",
        "definition": definition,
        "profile": key,
        "kind": kind,
        "experts": experts,
        "size": len(experts),
        "sample": sample,
    }


def conflicts(key, density, conflicting=30, redundant=20, kept=120, outvoted=30):
    return {
        "table": "conflicts",
        "profile": key,
        "density": density,
        "entries": 100,
        "redundant": redundant,
        "conflicting": conflicting,
        "kept": kept,
        "outvoted": outvoted,
    }


def magnitude(key, merging, mean, deviation=0.1, grouping="kept_by", level=1):
    return {
        "table": "magnitudes",
        "profile": key,
        "density": 0.2,
        "grouping": grouping,
        "level": level,
        "merging": merging,
        "entries": 40,
        "mean": mean,
        "deviation": deviation,
    }


def selecting(key, tasks, entries, merge_by="task_arithmetic", threshold=0.4):
    return {
        "table": "agreements",
        "profile": key,
        "merge_by": merge_by,
        "density": 1.0,
        "mask_threshold": threshold,
        "tasks": tasks,
        "entries": entries,
    }


def mask(key, task, entries, threshold, merge_by="task_arithmetic", density=1.0):
    return {
        "table": "masks",
        "profile": key,
        "merge_by": merge_by,
        "density": density,
        "mask_threshold": threshold,
        "task": task,
        "entries": entries,
    }


def test_conflicts_are_fractions_of_what_there_is_and_of_what_is_kept(ask):
    rows = [profiled("p", ["a/1", "b/2"]), conflicts("p", 0.2), conflicts("p", 1.0, 50)]
    found = ask(rows, "FROM sign_conflicts")
    assert [row["density"] for row in found] == [0.2, 1.0]
    assert found[0]["conflicting"] == 0.3
    assert found[0]["redundant"] == 0.2
    assert found[0]["conflicting_of_kept"] == 30 / 80
    assert found[0]["outvoted"] == 0.25
    assert found[0]["subset"] == 1


def test_where_nobody_keeps_anything_there_are_no_shares_of_it(ask):
    rows = [profiled("p", ["a/1"]), conflicts("p", 0.01, 0, 100, 0, 0)]
    (found,) = ask(rows, "FROM sign_conflicts")
    assert found["conflicting"] == 0
    assert found["conflicting_of_kept"] is None
    assert found["outvoted"] is None
    assert found["subset"] is None


def test_profiles_of_an_older_definition_are_not_shown(ask):
    rows = [profiled("p", ["a/1", "b/2"], definition="before"), conflicts("p", 0.2)]
    assert ask(rows, "FROM current_profiles") == []
    assert ask(rows, "FROM sign_conflicts") == []


def test_what_two_profiles_say_of_the_same_experts_is_said_once(ask):
    rows = [profiled(key, ["a/1", "b/2"], sample=int(key == "q")) for key in "pq"]
    rows += [conflicts(key, 0.2) for key in "pq"]
    rows += [magnitude(key, "average", 0.5) for key in "pq"]
    rows += [selecting(key, 2, 10) for key in "pq"]
    rows += [conflicts(key, 1.0) for key in "pq"]
    rows += [mask(key, "a/1", 10, 0.4) for key in "pq"]
    assert len(ask(rows, "FROM sign_conflicts WHERE density = 0.2")) == 1
    assert len(ask(rows, "FROM merged_magnitudes")) == 1
    assert len(ask(rows, "FROM mask_agreement")) == 1
    assert len(ask(rows, "FROM mask_shares")) == 1


def test_magnitudes_are_compared_with_the_average_of_their_group(ask):
    rows = [
        profiled("p", ["a/1", "b/2"]),
        magnitude("p", "average", 0.2),
        magnitude("p", "both", 0.5),
        magnitude("p", "average", 0.4, level=2),
        magnitude("p", "both", 0.6, level=2),
    ]
    found = ask(rows, "FROM merged_magnitudes WHERE merging = 'both' ORDER BY level")
    assert [row["to_average"] for row in found] == pytest.approx([2.5, 1.5])
    assert [row["average"] for row in found] == [0.2, 0.4]


def test_entries_are_named_by_how_many_tasks_select_them(ask):
    experts = ["a/1", "b/2", "c/3", "d/4"]
    rows = [profiled("p", experts), conflicts("p", 1.0)]
    rows += [selecting("p", tasks, 20) for tasks in range(5)]
    found = ask(rows, "FROM mask_agreement ORDER BY tasks")
    names = ["catastrophic", "selfish", "general", "general", "universal"]
    assert [row["name"] for row in found] == names
    assert {row["share"] for row in found} == {0.2}


def restored(by_hand, threshold, validation, test):
    """Score a model for each task, at one threshold of the masks."""
    name = f"tm{threshold}"
    options = {
        "merge_by": "task_arithmetic",
        "density": 0.2,
        "mask_threshold": threshold,
        "scale": 1.0,
        "comparison": "inclusive",
    }
    rows = [by_hand.cell(name, "tall_masks", options, kind="per_task")]
    for task, value, own in zip(by_hand.HELD_IN, validation, test, strict=True):
        rows.append(by_hand.score(name, task, value, "validation"))
        rows.append(by_hand.score(name, task, own))
    return rows


def test_each_task_has_the_threshold_that_did_best_on_its_validation_split(
    ask, by_hand
):
    rows = [
        profiled("p", ["a/1", "b/2"]),
        conflicts("p", 1.0),
        *(
            mask("p", task, entries, threshold)
            for task, few, many in (("a/1", 20, 40), ("b/2", 30, 60))
            for threshold, entries in ((0.4, many), (0.6, few))
        ),
        # Another merged task vector, which no model was restored from.
        mask("p", "a/1", 50, 0.4, "ties", 0.2),
        *restored(by_hand, 0.4, (80, 60), (81, 50)),
        *restored(by_hand, 0.6, (70, 65), (45, 64)),
    ]
    found = ask(rows, "FROM mask_shares WHERE is_chosen ORDER BY task")
    assert [(r["task"], r["mask_threshold"], r["share"]) for r in found] == [
        ("a/1", 0.4, 0.4),
        ("b/2", 0.6, 0.3),
    ]
    assert [row["normalized"] for row in found] == pytest.approx([81 / 90, 64 / 80])
    (other,) = ask(rows, "FROM mask_shares WHERE merge_by = 'ties'")
    assert other["share"] == 0.5
    assert other["accuracy"] is None
    assert not other["is_chosen"]


def test_layers_come_in_the_models_order_with_their_quantiles(ask):
    def layer(parameter, place, depth):
        return {
            "table": "task_vectors",
            "profile": "d",
            "parameter": parameter,
            "place": place,
            "layer_kind": "attention",
            "depth": depth,
            "layers": 2,
            "entries": 10,
            "unchanged": 5,
            "norm": 1.0,
            "mean": 0.0,
            "deviation": 0.3,
            "magnitude": 0.2,
            "quantiles": [float(level) for level in range(27)],
        }

    rows = [
        profiled("d", ["a/1"], kind="distribution"),
        layer("z", 0, None),
        layer("a", 1, 0),
    ]
    found = ask(rows, "FROM layer_spread")
    assert [(row["task"], row["parameter"]) for row in found] == [
        ("a/1", "z"),
        ("a/1", "a"),
    ]
    assert found[0]["unchanged"] == 0.5
    assert found[0]["depth"] is None
    first = found[0]
    quartiles = first["lower_quartile"], first["median"], first["upper_quartile"]
    assert quartiles == (8.0, 13.0, 18.0)


def test_a_profile_that_is_recorded_twice_counts_once(ask):
    rows = [profiled("p", ["a/1", "b/2"]), conflicts("p", 0.2)]
    assert len(ask(rows * 2, "FROM conflicts")) == 1
