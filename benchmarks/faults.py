"""Kill -9 half-way, then run again; and one worker instead of all: the manifests' content hashes must equal an undisturbed run's.

    python benchmarks/faults.py [--data FOLDER] [--quick] [--out FOLDER]

Runs the road of benchmarks/road.py four times: undisturbed; killed with SIGKILL in the middle of the filtering pass; continued; with
one worker. Exits with 1 if a hash differs. Writes benchmarks/results/faults.json unless --quick.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import psutil  # noqa: E402

from benchmarks.machine import write_result  # noqa: E402
from benchmarks.road import command, find_run  # noqa: E402
from store.artifact import Artifact  # noqa: E402
from store.fs import Folder  # noqa: E402


def main() -> None:
    """Run, kill, continue, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with web/ and truth/; default: the built-in sample")
    parser.add_argument("--quick", action="store_true", help="2,000 sample pages; writes no result file")
    parser.add_argument("--out", default=os.path.join(ROOT, "out-faults"), help="output folder, emptied first")
    parser.add_argument("--workers", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    base = options.out
    shutil.rmtree(base, ignore_errors=True)
    whole_s = run(options, os.path.join(base, "whole"))
    n_tasks, orphans_s = kill_half_way(options, os.path.join(base, "killed"))
    continued_s = run(options, os.path.join(base, "killed"))
    options.workers = 1
    run(options, os.path.join(base, "one"))
    expected, killed, one = (hashes(os.path.join(base, n)) for n in ("whole", "killed", "one"))
    figures = {
        "kill.artifacts": len(expected), "kill.differing_hashes": sum(killed[n] != expected[n] for n in expected),
        "kill.tasks_done_before": n_tasks, "kill.undisturbed_s": round(whole_s, 1), "kill.continued_s": round(continued_s, 1),
        "kill.processes_gone_after_s": round(orphans_s, 1), "one_worker.differing_hashes": sum(one[n] != expected[n] for n in expected),
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:<40} {value}")
    if not options.quick:
        source = "61,566 real pages" if options.data else "built-in sample, 6,000 pages"
        print("written:", write_result("faults" if options.data else "faults-sample", source, dict(figures), __doc__ or ""))
    sys.exit(1 if figures["kill.differing_hashes"] or figures["one_worker.differing_hashes"] else 0)


def start(options: argparse.Namespace, out: str) -> subprocess.Popen[bytes]:
    """The road as a process."""
    os.makedirs(out, exist_ok=True)
    at = argparse.Namespace(**{**vars(options), "out": out})
    with open(os.path.join(out, "road.log"), "ab") as log:
        return subprocess.Popen(command(at), stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)


def run(options: argparse.Namespace, out: str) -> float:
    """Run to the end; seconds."""
    begin = time.monotonic()
    if start(options, out).wait():
        sys.exit(f"the run failed: see {out}/road.log")
    return time.monotonic() - begin


def kill_half_way(options: argparse.Namespace, out: str) -> tuple[int, float]:
    """SIGKILL the driver when half of the filtering pass is done: (tasks done, seconds until its processes were gone)."""
    process = start(options, out)
    while process.poll() is None:
        done = len(glob.glob(f"{out}/artifacts/documents/*/_tasks/*.json"))
        if done >= (3 if options.quick else 8 if options.data else 4):
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            begin = time.monotonic()
            _, alive = psutil.wait_procs(children, timeout=90)
            if alive:
                sys.exit(f"{len(alive)} processes outlived the killed driver by 90 s")
            return done, time.monotonic() - begin
        time.sleep(0.02)
    return sys.exit("the run ended before it could be killed")


def hashes(out: str) -> dict[str, str]:
    """Step -> content hash."""
    return {s.name: Artifact.open(Folder(out) / s.folder).manifest.content_hash for s in find_run(out).steps}


if __name__ == "__main__":
    main()
