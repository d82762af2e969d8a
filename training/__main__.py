"""``python -m training JOB.json`` or ``torchrun --nproc-per-node N -m training JOB.json``: train without Ray.

Prints the summary as one JSON line. Exit code 0 finished, 2 an expected error (a sentence on standard error), 75 stopped by SIGTERM
with its checkpoint saved: run the same command again to go on (75 is EX_TEMPFAIL, what schedulers take as "requeue").
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from store.errors import DefinemedError
from training.job import read_job, run_job

STOPPED = 75


def main(arguments: list[str] | None = None) -> int:
    """Run one job file; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train a model on a pack plan, without Ray.")
    parser.add_argument("job", help="JSON file with the fields of training.job.TrainJob")
    path = parser.parse_args(arguments).job
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded; spinning threads collapse when others want the cores
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        summary = run_job(read_job(path))
    except DefinemedError as error:
        print(error.sentence(), file=sys.stderr)
        return error.exit_code
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(summary))
    return 0 if summary["status"] == "finished" else STOPPED


if __name__ == "__main__":
    sys.exit(main())
