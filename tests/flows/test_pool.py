import pytest

from flows.jobs import EVERYTHING, Job, make_jobs, make_jobs_beside
from flows.plan import make_plan
from flows.pool import MOST_JOBS, join, share_label, split
from tasks.workspace import open_workspace


def job(key, *after, flops=1, kind="train"):
    return Job(kind, (key,), frozenset(after), key, flops)


def keys(groups):
    return [[key for job in group for key in job.keys] for group in groups]


def test_groups_take_about_as_long_as_one_another():
    jobs = [job("a", flops=5), job("b", flops=1), job("c", flops=3), job("d", flops=3)]
    groups = split(jobs, 2)
    assert [sum(job.flops for job in group) for group in groups] == [6, 6]


def test_jobs_keep_their_order_within_and_among_groups():
    jobs = [job(str(n), flops=n + 1) for n in range(6)]
    for group in (groups := keys(split(jobs, 3))):
        assert group == sorted(group)
    assert groups == sorted(groups)


def test_no_group_is_empty_and_none_is_made_without_a_place():
    assert keys(split([job("a")], 4)) == [["a"]]
    assert split([job("a")], 0) == []


def test_what_is_more_than_groups_hold_is_left_out_from_the_end():
    jobs = [job(f"{n:02}") for n in range(2 * MOST_JOBS + 3)]
    taken = sorted(key for group in keys(split(jobs, 2)) for key in group)
    assert taken == [f"{n:02}" for n in range(2 * MOST_JOBS)]


def test_what_waits_for_a_group_alone_joins_it_and_what_joins_brings_its_own():
    group = [job("expert")]
    fisher = job("fisher", "expert", "pretrained", kind="fisher")
    cell = job("cell", "fisher", kind="cell")
    both = job("both", "expert", "other", kind="cell")
    pending = {"expert", "other", "fisher", "cell", "both"}
    join(group, [fisher, cell, both], pending, most=10)
    assert keys([group]) == [["expert", "fisher", "cell"]]


def test_a_group_does_not_grow_beyond_its_fair_part():
    group = [job("pretrain", flops=6)]
    experts = [job(name, "pretrain", flops=3) for name in "abc"]
    join(group, experts, {"pretrain", "a", "b", "c"}, most=10)
    assert keys([group]) == [["pretrain", "a"]]


def test_what_runs_beside_the_coordinator_does_not_join():
    group = [job("expert")]
    join(group, [job("trim", "expert", kind="trim")], {"expert", "trim"}, most=10)
    assert keys([group]) == [["expert"]]


def test_a_share_says_what_it_is_about():
    assert share_label([job("glyphs", kind="pretrain")]) == "pretrain glyphs"
    cells = Job("cell", ("a", "b"), frozenset(), "ties: 2 cells")
    assert share_label([job("x"), job("y"), cells]) == "2 x train, 2 x cell"


@pytest.fixture
def plan(experiment, tmp_path):
    """Plan experts, statistics and a sweep that is one unit, none of it done."""
    sweep = {"name": "task_arithmetic", "options": {"scale": [0.1, 0.2, 0.3]}}
    methods = [sweep, "fisher"]
    given = experiment(grid=[{"methods": methods}], statistics={"fisher": {}})
    return make_plan(open_workspace(given.model_dump_json(), str(tmp_path)))


def test_no_job_is_partly_in_a_share_that_is_open(plan):
    (unit,) = plan.units()
    expert, *_ = plan.steps("train")
    shares = [{entry.step.key for entry in unit[:2]}, {expert.key}]
    # What would be cut otherwise:
    assert any(set(job.keys) > shares[0] for job in make_jobs(plan, EVERYTHING))
    jobs = make_jobs_beside(plan, EVERYTHING, shares)
    under_way = [job for job in jobs if shares[0] & {*job.keys}]
    under_way += [job for job in jobs if shares[1] & {*job.keys}]
    assert [{*job.keys} for job in under_way] == shares
    assert not any(job.after for job in under_way)
    keys = [key for job in jobs for key in job.keys]
    assert sorted(keys) == sorted(plan.missing | plan.unscored)
