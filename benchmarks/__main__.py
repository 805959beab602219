"""Run the benchmarks one after the other: ``python -m benchmarks [NAME ...] [--quick] [-- OPTION ...]``.

Each prints Markdown, which goes to ``bench-output/NAME.md``, and all together to
``bench-output/benchmarks.md``. Options after ``--`` go to every benchmark as they are. Ends with 1
when one of them could not measure, whatever the figures of the others are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent / "bench-output"
NAMES = {
    "responsiveness": "Viewer: responsiveness while training and while segmenting",
    "first_preview": "Viewer: first preview",
    "dock_opening": "Viewer: opening a dock",
    "proofreading": "Viewer: corrections of cells",
    "hangs": "Viewer: hangs, whatever is clicked",
    "tiling": "Overlap-tile throughput",
    "large": "Large planes, Zarr to Zarr",
    "scaling": "Several workers",
    "gpu_throughput": "Reading, network and writing at the same time",
    "weight_map": "Weight map",
    "training_step": "Training step and augmentation",
    "zero_training": "Without any training",
    "five_pictures": "Segmentation after training on five pictures",
    "other_sizes": "Cells of another size than those painted",
    "dsb2018": "DSB 2018, StarDist's split",
    "usiigaci": "Usiigaci, cross-validated",
    "doubtful_cells": "Doubtful cells",
    "few_cells": "A few painted cells, against peers",
    "ablations": "What the parts bring",
    "throughput": "Speed in one table",
    "ctc": "A set of the Cell Tracking Challenge",
    "isbi2012": "EM membranes, ISBI 2012",
}
"""Every benchmark in the order of docs/benchmarks.md, and its heading."""
DOWNLOADS = ("ctc", "isbi2012")
"""Benchmarks on data that only a user can download: run when they are named, or in a trial on generated data."""


def run_one(name: str, options: list[str]) -> tuple[str, bool]:
    """Return what a benchmark printed, as a section, and whether it could measure."""
    print(f"== {name}", file=sys.stderr, flush=True)
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / f"{name}.py"), *options], stdout=subprocess.PIPE, text=True, check=False
    )
    took = time.perf_counter() - begin
    command = " ".join(["python", f"benchmarks/{name}.py", *options])
    measured = done.returncode == 0
    body = done.stdout.strip() if measured else f"Not measured: it ended with {done.returncode}, see the log."
    section = f"## {NAMES[name]}\n\n`{command}`, {took:.0f} s\n\n{body}\n"
    print(section, flush=True)
    return section, measured


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="short trials whose figures mean little")
    parser.add_argument("--model", help="instead of the bundled one, where a benchmark needs a model")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = sys.argv[1:]
    own, more = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    chosen = parser.parse_args(own)
    unknown = [name for name in chosen.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; known are {', '.join(NAMES)}")
    chosen.output.mkdir(parents=True, exist_ok=True)
    sections, failed = [], []
    for name in chosen.names or [n for n in NAMES if chosen.quick or n not in DOWNLOADS]:
        section, measured = run_one(name, [*options_of(name, chosen), *more])
        (chosen.output / f"{name}.md").write_text(section, encoding="utf-8")
        sections.append(section)
        failed += [] if measured else [name]
    (chosen.output / "benchmarks.md").write_text("\n".join(sections), encoding="utf-8")
    if failed:
        print(f"could not measure: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


MODEL_FREE = ("weight_map", "tiling", "dock_opening", "proofreading", "hangs", "usiigaci")
"""Benchmarks that need no trained model."""
STARTS = ("ctc", "isbi2012")
"""Benchmarks that name the model with which their trainings begin ``--start``."""


def options_of(name: str, chosen: argparse.Namespace) -> list[str]:
    """Return the options to pass on to one benchmark."""
    options = ["--quick"] if chosen.quick else []
    if chosen.model and name not in MODEL_FREE:
        option = "--start" if name in STARTS else "--model"
        options += [option, str(Path(chosen.model).resolve()) if Path(chosen.model).exists() else chosen.model]
    return options


if __name__ == "__main__":
    sys.exit(main())
