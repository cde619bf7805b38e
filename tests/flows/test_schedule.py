import pytest

from flows.schedule import Job, StepsFailedError, run_jobs


class Future:
    """A Prefect future whose task has ended already."""

    def __init__(self, result):
        self._result = result

    def add_done_callback(self, callback):
        callback(self)

    def result(self, *, raise_on_failure):
        assert not raise_on_failure
        return self._result


def job(key, *after, log, result=None):
    def submit():
        log.append(key)
        return Future(result)

    return Job((key,), frozenset(after), submit)


def test_jobs_run_after_what_they_read_whatever_their_order():
    log = []
    jobs = [job("c", "b", log=log), job("b", "a", log=log), job("a", log=log)]
    assert run_jobs(jobs, missing={"a", "b", "c"}).done == log == ["a", "b", "c"]


def test_a_failure_blocks_what_depends_on_it_and_nothing_else():
    log = []
    fault = ValueError("broken")
    jobs = [
        job("bad", log=log, result=fault),
        job("child", "bad", log=log),
        job("grandchild", "child", log=log),
        job("other", log=log),
    ]
    outcome = run_jobs(jobs, missing=set())
    assert log == ["bad", "other"]
    assert outcome.failed == {"bad": fault}
    assert sorted(outcome.blocked) == ["child", "grandchild"]
    assert outcome.done == ["other"]
    assert "broken (1 failed, 2 waited for them; 1 done" in str(
        StepsFailedError(outcome)
    )


def test_a_job_that_reads_what_nobody_makes_is_blocked():
    log = []
    outcome = run_jobs([job("cell", "expert", log=log)], missing={"expert"})
    assert outcome.blocked == ["cell"]
    assert not log


def test_what_exists_already_need_not_be_made():
    log = []
    assert run_jobs([job("cell", "expert", log=log)], missing=set()).done == ["cell"]


def test_jobs_that_wait_for_one_another_are_a_bug():
    log = []
    jobs = [job("a", "b", log=log), job("b", "a", log=log)]
    with pytest.raises(AssertionError, match="wait for one another"):
        run_jobs(jobs, missing={"a", "b"})
