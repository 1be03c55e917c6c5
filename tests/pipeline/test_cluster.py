"""Tasks on real workers: results, errors with their names, workers that die, and clusters that do not fit."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cluster_tasks import die, die_once, double, fail

from nnlite.errors import ProcessLostError, UsageError, WorkspaceError
from nnlite.pipeline import cluster
from nnlite.pipeline.cluster import Workers, cluster_for, on_worker, workers


def test_tasks_are_done_and_errors_arrive_with_their_name_and_the_worker_s_traceback(
    scheduler: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, "nnlite"), workers(scheduler, sees=[tmp_path]) as pool:
        coming = [pool.submit(double, number) for number in range(5)]
        assert [future.result(60) for future in coming] == [0, 2, 4, 6, 8]
        with pytest.raises(ValueError, match="case_7 has no numbers"):
            pool.submit(fail, "case_7").result(60)
    assert "case_7 failed on a worker" in caplog.text
    assert 'raise ValueError(f"{name} has no numbers")' in caplog.text  # a line of the worker's own traceback


def test_a_task_whose_worker_died_is_done_again(scheduler: str, tmp_path: Path):
    with workers(scheduler, sees=[tmp_path]) as pool:
        assert pool.submit(die_once, "case_3", tmp_path / "died").result(60) == "case_3"
    assert (tmp_path / "died").exists()


def test_a_task_that_kills_every_worker_is_given_up_with_its_name(scheduler: str, tmp_path: Path):
    with workers(scheduler, sees=[tmp_path]) as pool:
        pool.client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        with pytest.raises(ProcessLostError, match=r"case_5: the workers that did it died.*give them more"):
            pool.submit(die, "case_5").result(60)
        pool.client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 3))


def test_workers_that_do_not_see_a_path_are_named(scheduler: str, tmp_path: Path):
    with (
        pytest.raises(WorkspaceError, match=r"tcp://\S+ does not see .*nowhere; dataset, workspace and outputs must"),
        workers(scheduler, sees=[tmp_path / "nowhere"]),
    ):
        pass


def test_a_scheduler_may_be_named_by_the_file_it_wrote(scheduler: str, tmp_path: Path):
    file = tmp_path / "scheduler.json"
    file.write_text(f'{{"address": "{scheduler}", "type": "Scheduler", "id": "a", "workers": {{}}}}')
    with workers(str(file), sees=[tmp_path]) as pool:
        assert pool.submit(double, 4).result(60) == 8


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("scheduler.json", "there is no cluster scheduler.json: give local"),
        ("tcp://127.0.0.1:9", "no scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_of(address: str, message: str, monkeypatch: pytest.MonkeyPatch):
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UsageError, match=message),
        workers(address, sees=[]),
    ):
        pass


def test_without_the_extra_its_command_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'nnlite\[cluster\]'"), workers("local", sees=[]):
        pass


class AnsweringClient:
    """A client whose workers all give the same answers."""

    def __init__(self, version: Any, threads: int = 1):
        self.version, self.threads = version, threads

    def run(self, function: Any, *arguments: Any, on_error: str) -> dict[str, Any]:
        return {"tcp://node1:1": self.version if arguments == ("nnlite",) else True}

    def nthreads(self) -> dict[str, int]:
        return {"tcp://node1:1": self.threads}


def test_workers_without_nnlite_of_another_version_or_with_several_tasks_are_refused(tmp_path: Path):
    from importlib.metadata import PackageNotFoundError, version

    here = version("nnlite")
    for client, message in (
        (AnsweringClient(PackageNotFoundError("nnlite")), f"tcp://node1:1 has no nnlite; install version {here}"),
        (AnsweringClient("0.0.1"), f"tcp://node1:1 has nnlite 0.0.1, not {here}"),
        (AnsweringClient(here, threads=8), "tcp://node1:1 would do 8 tasks at a time"),
    ):
        with pytest.raises(UsageError, match=message):
            cluster._look_at(client, [tmp_path])


def test_a_worker_that_joins_later_looks_at_itself(tmp_path: Path):
    with pytest.raises(UsageError, match=r"this worker has nnlite \S+, not 9.9"):
        on_worker("9.9", [], double, (1,), {})
    from importlib.metadata import version

    with pytest.raises(WorkspaceError, match=r"this worker does not see .*nowhere"):
        on_worker(version("nnlite"), [tmp_path / "nowhere"], double, (1,), {})


@pytest.mark.parametrize(
    ("address", "gpus", "tasks", "wanted"),
    [
        ("auto", 4, 5, "local"),
        ("auto", 4, 1, None),
        ("auto", 1, 5, None),
        ("none", 4, 5, None),
        ("tcp://node:8786", 0, 1, "tcp://node:8786"),
    ],
)
def test_a_local_cluster_is_the_default_only_for_several_gpus_and_tasks(
    address: str, gpus: int, tasks: int, wanted: str | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "device_name", lambda device: "cuda" if gpus else "cpu")
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert cluster_for(address, "auto", tasks) == wanted


def test_a_local_cluster_has_a_worker_for_each_gpu(monkeypatch: pytest.MonkeyPatch):
    made = {}
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: SimpleNamespace(uuid=f"12-{number}"))
    monkeypatch.setattr("distributed.SpecCluster", lambda **options: made.update(options))
    cluster._local_cluster()
    visible = [worker["options"]["env"]["CUDA_VISIBLE_DEVICES"] for worker in made["workers"].values()]
    assert visible == ["GPU-12-0", "GPU-12-1"]
    assert all(worker["options"]["nthreads"] == 1 for worker in made["workers"].values())


def test_a_local_cluster_begins_and_ends_with_its_block(tmp_path: Path):
    with workers("local", sees=[tmp_path]) as pool:
        assert isinstance(pool, Workers)
        assert pool.submit(double, 21).result(60) == 42
