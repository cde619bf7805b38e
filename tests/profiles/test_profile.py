"""Profiles against references in float64, written from the papers entry by entry."""

import math
from collections import Counter
from statistics import fmean, pstdev

import pytest
import torch

import mergegrid
from mergegrid.bits import agreement_profile
from mergegrid.errors import InputError, NonFiniteError
from mergegrid.methods.tall_masks import tall_mask
from mergegrid.profiles.profile import profile, profile_flops
from mergegrid.statistics.trim import trim_thresholds

EXPERTS = ["a", "b", "c", "d"]
DENSITIES = (0.1, 0.5)
THRESHOLDS = (0.4, 1.0)
MERGINGS = ("average", "trimmed", "elected", "both")


def models(shapes, steps=None):
    """Make task vectors of many sizes, with entries that nobody has changed.

    With steps, entries are multiples of 1 / steps: many are equal, many cancel.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(shape):
        drawn = torch.randn(shape, generator=generator)
        return drawn if steps is None else (drawn * steps).round() / steps

    pretrained = {name: draw(shape) for name, shape in shapes.items()}
    moved = {name: draw(shape) > -1 for name, shape in shapes.items()}
    trained = {
        expert: {
            name: pretrained[name] + draw(shape) * moved[name]
            for name, shape in shapes.items()
        }
        for expert in EXPERTS
    }
    return trained, pretrained


@pytest.fixture(scope="module", params=[None, 2], ids=["continuous", "in steps"])
def small(request):
    return models({"w": (12, 9), "b": (7,), "scale": ()}, request.param)


@pytest.fixture(scope="module")
def found(small):
    return profile(*small, densities=DENSITIES, mask_thresholds=THRESHOLDS)


def entries(small):
    """List the experts' changes of every entry of the model, sorted by parameter."""
    trained, pretrained = small
    flat = {
        expert: torch.cat(
            [(own[name] - pretrained[name]).reshape(-1) for name in sorted(pretrained)]
        ).tolist()
        for expert, own in trained.items()
    }
    return [*zip(*flat.values(), strict=True)]


def trimmed(changes, density):
    """Keep floor(n density) entries of each expert, those of largest magnitude."""
    columns = []
    for column in zip(*changes, strict=True):
        order = sorted(range(len(column)), key=lambda i: -abs(column[i]))
        kept = set(order[: math.floor(len(column) * density)])
        columns.append([v if i in kept else 0.0 for i, v in enumerate(column)])
    return [*zip(*columns, strict=True)]


def sign(value):
    return (value > 0) - (value < 0)


def elected(rows):
    """Elect the sign of the larger mass; the majority's where there is none."""
    signs = [sign(math.fsum(row)) for row in rows]
    majority = 1 if sum(signs) >= 0 else -1
    return [one or majority for one in signs]


def disjoint_mean(rows):
    means = []
    for row, one in zip(rows, elected(rows), strict=True):
        agreeing = [value for value in row if sign(value) == one]
        means.append(fmean(agreeing) if agreeing else 0.0)
    return means


def test_conflicts_are_those_of_the_papers_definition(small, found):
    changes = entries(small)
    for density in (*DENSITIES, 1.0):
        rows = trimmed(changes, density)
        counted = found.conflicts[density]
        assert counted.entries == len(rows)
        assert counted.redundant == sum(not any(row) for row in rows)
        assert counted.conflicting == sum(min(row) < 0 < max(row) for row in rows)
        assert counted.kept == sum(value != 0 for row in rows for value in row)
        assert counted.outvoted == sum(
            value != 0 and sign(value) != one
            for row, one in zip(rows, elected(rows), strict=True)
            for value in row
        )


def groups_of(changes, rows):
    """Group entries as TIES' section 7.1 does."""
    rises = [sum(value > 0 for value in row) for row in changes]
    falls = [sum(value < 0 for value in row) for row in changes]
    shares = [
        math.floor(10 * max(up, down) / (up + down) + 1e-9) / 10 if up + down else 0
        for up, down in zip(rises, falls, strict=True)
    ]
    return {
        "all": [0] * len(rows),
        "kept_by": [sum(value != 0 for value in row) for row in rows],
        "agreement": shares,
    }


def test_magnitudes_are_those_of_each_kind_of_merging_in_each_group(small, found):
    changes = entries(small)
    for density in DENSITIES:
        rows = trimmed(changes, density)
        merged = {
            "average": [math.fsum(row) / len(row) for row in changes],
            "trimmed": [
                math.fsum(row) / max(sum(value != 0 for value in row), 1)
                for row in rows
            ],
            "elected": disjoint_mean(changes),
            "both": disjoint_mean(rows),
        }
        expected = {}
        for grouping, levels in groups_of(changes, rows).items():
            for level in set(levels):
                inside = [i for i, other in enumerate(levels) if other == level]
                for merging in MERGINGS:
                    sizes = [abs(merged[merging][i]) for i in inside]
                    key = grouping, level, merging
                    expected[key] = len(sizes), fmean(sizes), pstdev(sizes)
        measured = {
            (one.grouping, one.level, one.merging): one
            for one in found.magnitudes[density]
        }
        assert measured.keys() == expected.keys()
        for key, (count, mean, deviation) in expected.items():
            assert measured[key].entries == count
            assert measured[key].mean == pytest.approx(mean, rel=1e-5, abs=1e-12)
            near = pytest.approx(deviation, rel=1e-4, abs=1e-9)
            assert measured[key].deviation == near


def test_masks_are_those_of_equations_5_and_7(small, found):
    changes = entries(small)
    for one in found.agreements:
        if one.merge_by == "task_arithmetic":
            merged = [math.fsum(row) for row in changes]
        else:
            rows = trimmed(changes, one.density)
            merged = [
                math.fsum(value for value in row if sign(value) == of_row)
                for row, of_row in zip(rows, elected(rows), strict=True)
            ]
        masks = [
            [
                (value != 0 or total != 0)
                and abs(value) >= one.mask_threshold * abs(total - value)
                for value in row
            ]
            for row, total in zip(changes, merged, strict=True)
        ]
        counts = Counter(sum(mask) for mask in masks)
        assert one.agreeing == tuple(counts[n] for n in range(len(EXPERTS) + 1))
        assert one.selected == tuple(map(sum, zip(*masks, strict=True)))
    kinds = [
        (one.merge_by, one.density, one.mask_threshold) for one in found.agreements
    ]
    assert kinds == [
        (merge_by, density, threshold)
        for merge_by, density in (
            ("task_arithmetic", 1.0),
            *(("ties", density) for density in DENSITIES),
        )
        for threshold in THRESHOLDS
    ]


def test_a_model_of_many_blocks_is_profiled_as_a_whole():
    trained, pretrained = models({"large": (700, 300), "small": (5,)})
    found = profile(trained, pretrained, densities=(0.2,), mask_thresholds=(0.7,))
    changes = torch.stack(
        [
            torch.cat([(own[n] - pretrained[n]).reshape(-1) for n in pretrained])
            for own in trained.values()
        ]
    )
    conflicting = (changes > 0).any(dim=0) & (changes < 0).any(dim=0)
    assert found.conflicts[1.0].conflicting == int(conflicting.sum())
    assert found.conflicts[0.2].kept == 4 * (210_005 // 5)
    masks = tall_mask(changes, changes.double().sum(dim=0), mask_threshold=0.7)
    expected = agreement_profile([masks]).tolist()
    shares = [count / 210_005 for count in found.agreements[0].agreeing]
    assert shares == pytest.approx(expected)


def test_both_together_is_what_ties_merges(small, found):
    trained, pretrained = small
    options = {"density": 0.1}
    recipe = {"method": "ties", "options": options}
    merged = mergegrid.merge(trained, recipe, pretrained)
    sizes = [
        abs(value)
        for name in pretrained
        for value in (merged[name] - pretrained[name]).reshape(-1).tolist()
    ]
    both = next(m for m in found.magnitudes[0.1] if m.merging == "both")
    assert both.grouping == "all"
    assert both.mean == pytest.approx(fmean(sizes), rel=1e-3)


def test_thresholds_that_are_known_change_nothing(small, found):
    trained, pretrained = small
    trims = {
        expert: trim_thresholds(
            {name: own[name] - pretrained[name] for name in pretrained}, DENSITIES
        )
        for expert, own in trained.items()
    }
    given = profile(
        *small, trims=trims, densities=DENSITIES, mask_thresholds=THRESHOLDS
    )
    assert given == found


def test_trimming_harder_never_adds_a_conflict(small):
    densities = (0.05, 0.2, 0.6, 0.9)
    found = profile(*small, densities=densities)
    counts = [found.conflicts[density].conflicting for density in (*densities, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_another_expert_never_removes_a_conflict(small):
    trained, pretrained = small
    counts = [
        profile({e: trained[e] for e in EXPERTS[:count]}, pretrained).conflicts
        for count in range(1, len(EXPERTS) + 1)
    ]
    for density in (0.2, 1.0):
        conflicting = [of_density[density].conflicting for of_density in counts]
        assert conflicting == sorted(conflicting)
        assert conflicting[0] == 0


def test_experts_that_are_all_the_same_agree_in_everything(small):
    trained, pretrained = small
    found = profile(
        dict.fromkeys(EXPERTS, trained["a"]),
        pretrained,
        densities=(1.0,),
        mask_thresholds=(0.0,),
    )
    assert found.conflicts[1.0].conflicting == found.conflicts[1.0].outvoted == 0
    means = {m.merging: m.mean for m in found.magnitudes[1.0] if m.grouping == "all"}
    assert means == pytest.approx(dict.fromkeys(MERGINGS, means["average"]), rel=1e-6)
    changed = found.conflicts[1.0].entries - found.conflicts[1.0].redundant
    for masks in found.agreements:
        assert masks.agreeing[-1] == changed


def test_without_thresholds_there_are_no_masks(small):
    assert profile(*small).agreements == ()


def test_an_expert_that_is_not_finite_is_named(small):
    trained, pretrained = small
    broken = {name: tensor * math.nan for name, tensor in trained["b"].items()}
    with pytest.raises(NonFiniteError, match="'b'"):
        profile(trained | {"b": broken}, pretrained)


def test_there_is_nothing_to_profile_without_experts(small):
    with pytest.raises(InputError, match="at least one expert"):
        profile({}, small[1])


def test_operations_grow_with_what_is_asked_for():
    least = profile_flops(1000, 4, [0.2], 0)
    assert profile_flops(2000, 4, [0.2], 0) == 2 * least
    assert least < profile_flops(1000, 5, [0.2], 0)
    assert least < profile_flops(1000, 4, [0.1, 0.2], 0)
    assert least < profile_flops(1000, 4, [0.2], 1) < profile_flops(1000, 4, [0.2], 2)
