import pytest

from flows.jobs import Job
from flows.schedule import Outcome, StepsFailedError, run_jobs


class Immediately:
    """Runs jobs as soon as they are handed over; some fail, some places are few."""

    def __init__(self, faults=(), places=100):
        self.log = []
        self._faults = dict(faults)
        self._places = places
        self._ended = []

    @property
    def busy(self):
        return bool(self._ended)

    def start(self, ready, later):
        assert not set(ready) & set(later)
        taken = list(ready)[: self._places]
        self.log += [job.label for job in taken]
        self._ended += taken
        return taken

    def wait(self):
        job = self._ended.pop(0)
        if job.label in self._faults:
            return Outcome(failed=dict.fromkeys(job.keys, self._faults[job.label]))
        return Outcome(done=list(job.keys))


def job(key, *after):
    return Job("train", (key,), frozenset(after), key)


def test_jobs_run_after_what_they_read_whatever_their_order():
    executor = Immediately()
    jobs = [job("c", "b"), job("b", "a"), job("a")]
    outcome = run_jobs(jobs, executor, missing={"a", "b", "c"})
    assert outcome.done == executor.log == ["a", "b", "c"]


def test_jobs_that_an_executor_has_no_place_for_are_offered_again():
    executor = Immediately(places=1)
    jobs = [job("a"), job("b"), job("c", "b")]
    assert run_jobs(jobs, executor, missing=set()).done == ["a", "b", "c"]


def test_a_failure_blocks_what_depends_on_it_and_nothing_else():
    fault = ValueError("broken")
    executor = Immediately(faults={"bad": fault})
    jobs = [job("bad"), job("child", "bad"), job("grandchild", "child"), job("other")]
    outcome = run_jobs(jobs, executor, missing=set())
    assert executor.log == ["bad", "other"]
    assert outcome.failed == {"bad": fault}
    assert sorted(outcome.blocked) == ["child", "grandchild"]
    assert outcome.done == ["other"]
    assert "broken (1 failed, 2 waited for them; 1 done" in str(
        StepsFailedError(outcome)
    )


def test_a_job_that_reads_what_nobody_makes_is_blocked():
    executor = Immediately()
    outcome = run_jobs([job("cell", "expert")], executor, missing={"expert"})
    assert outcome.blocked == ["cell"]
    assert not executor.log


def test_what_exists_already_need_not_be_made():
    outcome = run_jobs([job("cell", "expert")], Immediately(), missing=set())
    assert outcome.done == ["cell"]


def test_jobs_that_wait_for_one_another_are_a_bug():
    jobs = [job("a", "b"), job("b", "a")]
    with pytest.raises(AssertionError, match="wait for one another"):
        run_jobs(jobs, Immediately(), missing={"a", "b"})
