"""Whatever is clicked in whatever order: random but seeded walks through the viewer, and what went wrong.

    python benchmarks/fuzz.py --seeds 1 2 3 --actions 1000
    python benchmarks/fuzz.py --replay walk.jsonl
    python benchmarks/fuzz.py --shrink walk.jsonl

Each walk is a process of its own: a real viewer with all docks, in which layers are added, renamed, deleted and
reordered, strokes painted, buttons clicked, trainings started and the backend killed. A walk that fails
leaves its actions in a file; ``--shrink`` leaves out what it fails without. Ends with 1 when a walk failed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import screen
from reporting import ROOT, machine, say, table

sys.path.insert(0, str(ROOT / "tests" / "plugin"))
LONG_MS = 200.0
HANG = 60.0
"""Seconds without an answer that make a walk fail, whatever else the computer does."""
OUTPUT = ROOT / "bench-output" / "fuzz"


def walk(seed: int, count: int, actions: list[Any], go_on: bool, diary: Path) -> dict[str, Any]:
    """Walk in this process, and return what came of it as plain data; the diary is there also after a crash."""
    import napari
    from fuzzing.walk import Report, Walk, lines_of

    faulthandler.enable()
    application = napari.qt.get_qapp()
    with diary.open("w", encoding="utf-8") as file:

        def tell(action: Any) -> None:
            file.write(lines_of([action]) + "\n")
            file.flush()

        report = Walk(lambda: napari.Viewer(show=True), Report(seed, actions), count, go_on, tell, HANG).run()
    del application
    gaps = [
        {"ms": 1000 * gap.seconds, "cpu": 1000 * gap.computing, "action": report.actions[gap.at][0], "stack": gap.stack}
        for gap in report.gaps
        if gap.at >= 0
    ]
    return {
        "seed": seed, "done": report.done, "reached": report.reached, "said": report.said,
        "troubles": [trouble.signature for trouble in report.troubles], "words": report.words(),
        "foreign": report.foreign, "gaps": gaps, "warnings": report.warnings,
    }  # fmt: skip


def in_own_process(options: list[str], timeout: float) -> dict[str, Any]:
    """Return the outcome of a walk in a process of its own; one that crashes or hangs has failed too."""
    command = [sys.executable, str(Path(__file__)), "--one", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode("utf-8", "replace")
        return {"troubles": ["hang of the whole walk"], "words": said[-6000:], "done": 0, "gaps": []}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"troubles": [f"crash {done.returncode}"], "words": done.stderr[-6000:], "done": 0, "gaps": []}
    found: dict[str, Any] = json.loads(lines[-1])
    found["stderr"] = done.stderr[-3000:]
    return found


def shrink(path: Path) -> None:
    """Leave out actions without which the same trouble comes, and write what is left."""
    lines = path.read_text(encoding="utf-8").splitlines()
    trial = path.with_suffix(".trial")

    def troubles(kept: list[str]) -> list[str]:
        trial.write_text("\n".join(kept), encoding="utf-8")
        return list(in_own_process(["--replay", str(trial)], 900)["troubles"])

    wanted = troubles(lines)
    if not wanted:
        say("nothing goes wrong in this walk")
        return
    say(f"{len(lines)} actions lead to {wanted[0]}")
    size = len(lines) // 2
    while size:
        at = 0
        while at < len(lines):
            kept = lines[:at] + lines[at + size :]
            if kept and wanted[0] in troubles(kept):
                lines = kept
                say(f"{len(lines)} actions still do")
            else:
                at += size
        size //= 2
    path.with_suffix(".short").write_text("\n".join(lines), encoding="utf-8")
    trial.unlink(missing_ok=True)
    say(f"written to {path.with_suffix('.short').name}")


def one(chosen: argparse.Namespace) -> None:
    """Walk once, and print the outcome as one line of JSON."""
    from fuzzing.walk import read_lines

    actions = read_lines(chosen.replay.read_text(encoding="utf-8")) if chosen.replay else []
    with screen.own_home("bundled"):
        found = walk(chosen.seeds[0], chosen.actions, actions, chosen.go_on, chosen.diary)
    print(json.dumps(found), flush=True)
    # Python's own end is not what this is about, and may take long with a viewer.
    os._exit(0)


def many(chosen: argparse.Namespace) -> int:
    """Walk from each seed, print what was found, and return how many walks failed."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rows, gaps, failed = [], [], 0
    for seed in chosen.seeds:
        begin = time.perf_counter()
        diary = OUTPUT / f"{seed}.jsonl"
        options = ["--seeds", str(seed), "--actions", str(chosen.actions), "--diary", str(diary)]
        options += ["--replay", str(chosen.replay)] if chosen.replay else []
        found = in_own_process(options + ["--go-on"] * chosen.go_on, 60 + 3.0 * chosen.actions)
        gaps += found["gaps"]
        rows.append([seed, found["done"], f"{time.perf_counter() - begin:.0f}", len(found["troubles"])])
        (OUTPUT / f"{seed}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        say(f"seed {seed}: {found['done']} actions, {dict(Counter(found['troubles'])) or 'all well'}")
        if found["troubles"]:
            failed += 1
            (OUTPUT / f"{seed}.txt").write_text(found["words"], encoding="utf-8")
    print(machine(), "\n")
    print(table(["seed", "actions", "seconds", "troubles"], rows), "\n")
    print(gap_table(gaps))
    return failed


def gap_table(gaps: list[dict[str, Any]]) -> str:
    """Return the gaps over 200 ms, by what was done and where the main thread was, the longest first."""
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for gap in gaps:
        if gap["ms"] > LONG_MS:
            by_place.setdefault((gap["action"], gap["stack"].split(" | ")[0]), []).append(gap)
    ranked = sorted(by_place.items(), key=lambda entry: -max(gap["cpu"] for gap in entry[1]))
    rows = [
        [name, len(found), f"{max(g['ms'] for g in found):.0f}", f"{max(g['cpu'] for g in found):.0f}", place]
        for (name, place), found in ranked[:40]
    ]
    return table(["gap over 200 ms in", "times", "longest, ms", "computing, ms", "where"], rows)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--actions", type=int, default=1000, help="of each walk")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="actions to do instead of drawn ones")
    parser.add_argument("--shrink", type=Path, metavar="FILE", help="find fewer actions with the same trouble")
    parser.add_argument("--go-on", action="store_true", help="do not end a walk at its first trouble")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--diary", type=Path, default=OUTPUT / "diary.jsonl", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    screen.need_display()
    chosen.diary.parent.mkdir(parents=True, exist_ok=True)
    if chosen.one:
        one(chosen)
    elif chosen.shrink:
        shrink(chosen.shrink)
    else:
        return int(many(chosen) > 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
