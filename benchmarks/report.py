"""How long the report takes: 100 experiments x 10 folds x 5 seeds x 7 conditions read, and how large the page gets.

    python benchmarks/report.py [--experiments 100] [--folds 10] [--runs 5] [--samples 240] [--folder DIR]

The limits are 20 seconds for reading and 10 MB for the page. The tree is made first, which is not counted. Seconds are
of the processor as well as of the clock: on a machine that others use, the former say more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from pipeline.reporting.facts import gather
from pipeline.reporting.writing import write
from tests import report_tree


def main() -> None:
    """Make the tree, read it, write the page; print what each took."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, count in (("experiments", 100), ("folds", 10), ("runs", 5), ("samples", 240), ("tables", 12)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--folder", type=Path, help="keep the tree here, and use it again")
    parser.add_argument("--read-only", action="store_true", help="do not write the page")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        data = given.folder or Path(temporary)
        params = report_tree.large_params(given.experiments, given.tables)
        if not (data / "manifests").is_dir():
            report_tree.write_large(data, params, given.folds, given.runs, given.samples, epochs=40)
        results = sum(path.stat().st_size for path in data.glob("results/*/*.csv"))
        clock, processor = time.perf_counter(), time.process_time()
        datasets, experiments = gather(params, data)
        print(
            f"read {given.experiments} experiments x {given.folds} folds x {given.runs} seeds x 7 conditions "
            f"({results / 1e6:.0f} MB of results): {time.perf_counter() - clock:.1f} s, "
            f"{time.process_time() - processor:.1f} s of the processor; at most 20 s",
            flush=True,
        )
        if given.read_only:
            return
        clock, processor = time.perf_counter(), time.process_time()
        write(params, datasets, experiments, data / "report")
        page = (data / "report/index.html").stat().st_size
        figures = len(list((data / "report/figures").glob("*.svg")))
        print(
            f"write the page with {figures} figures as SVG and PDF: {time.perf_counter() - clock:.1f} s, "
            f"{time.process_time() - processor:.1f} s of the processor; {page / 1e6:.1f} MB, at most 10 MB"
        )


if __name__ == "__main__":
    main()
