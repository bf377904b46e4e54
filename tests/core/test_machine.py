"""The cores that a process may use, and work that threads do in order."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest
from helpers.paths import ROOT

from condense_core.machine import allowed_cores, read_ahead, usable_cores

CORE = min(os.sched_getaffinity(0))
V1 = "31 23 0:28 {root} /sys/fs/cgroup/cpu\\040limits rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V2 = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
BOTH = f"{V1}\n41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"


def machine(folder, mounts, own, quotas):
    """A folder like the root of a system: its mounts, this process's cgroups, and quotas by group."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n{mounts}\n")
    (folder / "proc/self/cgroup").write_text(f"{own}\n")
    for group, text in quotas.items():
        path = folder / "sys/fs/cgroup" / group
        path.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            (path / "cpu.max").write_text(text)
        else:
            for name, number in zip(("quota", "period"), text, strict=True):
                (path / f"cpu.cfs_{name}_us").write_text(f"{number}\n")
    return folder


V2_ROOT, V1_ROOT = V2.format(root="/"), V1.format(root="/")
GROUPS = {
    "no cgroups at all": ("", "", {}, 16),
    "v2, no limit": (V2_ROOT, "0::/", {"": "max 100000"}, 16),
    "v2, limited": (V2_ROOT, "0::/", {"": "300000 100000"}, 3),
    "v2, a part of a core": (V2_ROOT, "0::/", {"": "50000 100000"}, 1),
    "v2, one and a half": (V2_ROOT, "0::/", {"": "150000 100000"}, 1),
    "v2, two and a half": (V2_ROOT, "0::/", {"": "25000 10000"}, 2),
    "v2, more than there are": (V2_ROOT, "0::/", {"": "6400000 100000"}, 16),
    "v2, limited by its own group": (V2_ROOT, "0::/a/b", {"a": "max 100000", "a/b": "400000 100000"}, 4),
    "v2, limited further out": (V2_ROOT, "0::/a/b", {"a": "200000 100000", "a/b": "max 100000"}, 2),
    "v2, another's limit": (V2_ROOT, "0::/a", {"a": "max 100000", "b": "100000 100000"}, 16),
    "v2, a container's view": (V2.format(root="/../.."), "0::/../../x", {"": "500000 100000"}, 5),
    "v2, its own root": (V2.format(root="/docker/1"), "0::/docker/1", {"": "500000 100000"}, 5),
    "v2, a file of nonsense": (V2_ROOT, "0::/", {"": "many"}, 16),
    "v1, no limit": (V1_ROOT, "3:cpu,cpuacct:/", {"cpu limits": (-1, 100000)}, 16),
    "v1, limited": (V1_ROOT, "3:cpu,cpuacct:/", {"cpu limits": (300000, 100000)}, 3),
    "v1, nested": (
        V1_ROOT,
        "4:memory:/x\n3:cpu,cpuacct:/job/step",
        {"cpu limits/job": (200000, 100000), "cpu limits/job/step": (-1, 100000)},
        2,
    ),
    "v1, a container's root": (
        V1.format(root="/docker/1"),
        "3:cpu,cpuacct:/docker/1",
        {"cpu limits": (700000, 100000)},
        7,
    ),
    "both": (BOTH.format(root="/"), "3:cpu:/\n0::/", {"cpu limits": (200000, 100000)}, 2),
    "a period of zero": (V1_ROOT, "3:cpu:/", {"cpu limits": (200000, 0)}, 16),
    "a strange mountinfo": ("30 23", "0::/", {"": "200000 100000"}, 16),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_cores_of_a_quota_are_counted_in_every_kind_of_cgroup(tmp_path, monkeypatch, name):
    mounts, own, quotas, cores = GROUPS[name]
    monkeypatch.setattr("condense_core.machine.cores.allowed_cores", lambda: 16)
    assert usable_cores(machine(tmp_path, mounts, own, quotas)) == cores


def test_a_core_that_affinity_forbids_is_not_counted_and_no_run_is_planned_for_it():
    code = "from analysis.engines.processes import ProcessEngine; from helpers.runs import small_run; "
    code += "from condense_core.machine import usable_cores; "
    code += "print(usable_cores(), ProcessEngine().slots(small_run()))"
    command = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{CORE}}}); {code}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    ended = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("1 1\n", "")
    assert allowed_cores() >= usable_cores() >= 1


def test_work_of_threads_comes_in_order_and_no_further_ahead_than_asked():
    begun, gate = [], threading.Event()

    def work(task: int) -> int:
        begun.append(task)
        return task if task else (gate.wait(), task)[1]

    results = read_ahead(work, range(10), ahead=4, threads=3)
    threading.Timer(0.05, gate.set).start()
    assert next(results) == 0
    assert set(begun) <= set(range(4))
    assert list(results) == list(range(1, 10))


def test_an_error_of_a_thread_keeps_its_type_and_place_and_ends_the_rest():
    def work(task: int) -> int:
        if task == 3:
            raise KeyError(task)
        return task

    results, before = read_ahead(work, range(1000), ahead=8, threads=2), threading.active_count()
    with pytest.raises(KeyError, match="3") as error:
        list(results)
    assert error.traceback[-1].name == "work"
    assert threading.active_count() == before


def test_threads_end_with_whoever_reads_their_work():
    before = threading.active_count()
    results = read_ahead(str, range(1000), ahead=8, threads=2)
    next(results)
    results.close()
    assert threading.active_count() == before
