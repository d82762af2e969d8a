"""The doctor on this machine, and on what is planted: a wrong version, an overwritten file, a tight cgroup, a deaf hub."""

import base64
import hashlib
import os
import stat
import time
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster import doctor, machine
from cluster.doctor import Check, diagnose
from cluster.packages import changed_files, fasttext_findings, out_of_range, requirements, torch_build


def test_this_machine_is_fit_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    began_s = time.monotonic()
    checks = diagnose(str(tmp_path / "not" / "yet"))
    assert time.monotonic() - began_s < 60, "15 s on an idle machine"
    assert len({c.name for c in checks}) == len(checks) >= 12
    assert not [c for c in checks if c.ok == "fail"]
    assert all(c.finding and "\n" not in c.finding and (c.ok == "ok" or c.remedy) for c in checks)
    by_name = {c.name: c for c in checks}
    assert "CPUs" in by_name["Ray"].finding and by_name["Ray"].ok == "ok"
    assert by_name["fastText"].ok == "ok" and by_name["packages"].ok == "ok"
    assert not (tmp_path / "not").exists(), "looking changes nothing"


def test_requirements_are_the_projects_own():
    names = {r.name for r in requirements()}
    assert {"ray", "pyarrow", "fasttext-community", "torch"} <= names and "pytest" not in names


def test_a_version_out_of_range_and_a_missing_package_are_named():
    wanted = [Requirement("numpy>=1"), Requirement("numpy<1"), Requirement("no-such-package-of-anyone>=3")]
    numpy, missing = out_of_range(wanted)
    assert (numpy.name, numpy.wanted, numpy.found) == ("numpy", "<1", metadata.version("numpy"))
    assert (missing.name, missing.wanted, missing.found) == ("no-such-package-of-anyone", ">=3", None)


def planted_distribution(folder, body, recorded):
    (folder / "fasttext").mkdir()
    (folder / "fasttext" / "FastText.py").write_bytes(body)
    digest = base64.urlsafe_b64encode(hashlib.sha256(recorded).digest()).rstrip(b"=").decode()
    info = folder / "fasttext_community-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fasttext-community\nVersion: 1\n")
    (info / "RECORD").write_text(f"fasttext/FastText.py,sha256={digest},{len(recorded)}\nfasttext_community-1.dist-info/RECORD,,\n")
    return metadata.Distribution.at(info)


def test_overwritten_files_are_seen(tmp_path):
    (tmp_path / "good").mkdir(), (tmp_path / "bad").mkdir(), (tmp_path / "gone").mkdir()
    assert changed_files(planted_distribution(tmp_path / "good", b"ours", b"ours")) == []
    assert changed_files(planted_distribution(tmp_path / "bad", b"theirs", b"ours")) == ["fasttext/FastText.py"]
    gone = planted_distribution(tmp_path / "gone", b"ours", b"ours")
    (tmp_path / "gone" / "fasttext" / "FastText.py").unlink()
    assert changed_files(gone) == ["fasttext/FastText.py"]
    assert fasttext_findings() == []


def test_torch_build_is_torchs_own_word():
    import torch

    assert torch_build() == (torch.__version__, torch.version.cuda)


def test_a_cgroup_says_how_many_cores_and_how_much_memory(tmp_path):
    here = len(os.sched_getaffinity(0))
    assert machine.cores_allowed(tmp_path / "none") == here
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores_allowed(tmp_path) == here
    for quota, cores in {"150000 100000": min(1, here), "50000 100000": 1, "99900000 100000": here}.items():
        (tmp_path / "cpu.max").write_text(quota)
        assert machine.cores_allowed(tmp_path) == cores
    total = machine.memory_allowed(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.memory_allowed(tmp_path) == total
    (tmp_path / "memory.max").write_text(str(1 << 30))
    assert machine.memory_allowed(tmp_path) == 1 << 30
    v1 = tmp_path / "v1"
    (v1 / "cpu").mkdir(parents=True), (v1 / "memory").mkdir()
    (v1 / "cpu" / "cpu.cfs_quota_us").write_text("-1"), (v1 / "cpu" / "cpu.cfs_period_us").write_text("100000")
    (v1 / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert (machine.cores_allowed(v1), machine.memory_allowed(v1)) == (here, total)
    (v1 / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    assert machine.cores_allowed(v1) == 1


def test_gpus_are_read_from_the_drivers_tool(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 570.86.10'\necho 'Odd, [N/A], 570.86.10'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.gpus() == [machine.Gpu("NVIDIA H100 80GB HBM3", 81559 << 20, "570.86.10"), machine.Gpu("Odd", 0, "570.86.10")]
    version, cuda = torch_build()
    assert doctor.check_gpu().ok == ("ok" if cuda else "warn") and "H100" in doctor.check_gpu().finding
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert machine.gpus() == []
    assert doctor.check_gpu().ok == "ok" and version in doctor.check_gpu().finding


def test_a_machine_is_described_without_naming_it(tmp_path):
    import json
    import platform

    found = machine.describe_machine(str(tmp_path / "out"))
    text = json.dumps(found)
    assert found["n_cores"] >= 1 and found["memory_bytes"] > 1 << 30 and found["disk_free_bytes"] > 0
    assert found["versions"]["ray"] == metadata.version("ray")
    assert platform.node() not in text.split('"') and str(tmp_path) not in text
    assert machine.describe_machine("memory://out")["disk_free_bytes"] is None


def test_a_hub_that_does_not_answer_is_a_warning(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = doctor.check_hub()
    assert found.ok == "warn" and "127.0.0.1:9 does not answer" in found.finding and "HF_HUB_OFFLINE=1" in found.remedy
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert doctor.check_hub().ok == "ok"


def test_a_named_kernel_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert doctor.check_numba_cache() == Check("kernel cache", "ok", str(tmp_path / "cache"))
    if Path("/proc/version").exists():  # nobody, not even root, may create files in /proc
        monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/cache")
        assert os.access("/proc", os.W_OK) or doctor.check_numba_cache().ok == "warn"


def test_ray_that_cannot_start_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    found = doctor.check_ray()
    assert found.ok == "fail" and "no Ray head answers at this address" in found.finding


@pytest.mark.parametrize(("free", "verdict"), [(None, "ok"), (100, "fail"), (5 << 30, "warn"), (50 << 30, "ok")])
def test_disk_space(tmp_path, monkeypatch, free, verdict):
    monkeypatch.setattr(doctor, "disk_free", lambda _path: free)
    assert doctor.check_disk(str(tmp_path)).ok == verdict
