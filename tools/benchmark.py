"""Measure openvocab against the usual way to do the same work, both in turn in one process.

python tools/benchmark.py --out work_dirs/benchmark.json
python tools/benchmark.py --rows label_map confusion --repeats 3
python tools/benchmark.py --device cuda

Weights are random and images synthetic. Ratios depend less on the machine than milliseconds; both need a quiet one.
"""

import argparse

import torch
from benchmarks.comparison import Row, use_threads
from benchmarks.gpu import require_cuda
from benchmarks.machine import describe_machine
from benchmarks.measurement import measure
from benchmarks.profile import profile_line
from benchmarks.report import header, machine_lines, table_line, write_json
from benchmarks.rows import ROWS

from openvocab.command_line import one_line_errors


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="only the rows whose names start with this")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--profile", action="store_true", help="show where our side spends its time, instead of times")
    parser.add_argument("--repeats", type=int, help="timed calls of each side; default: that of each row")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where both sides run; default: cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
    parser.add_argument("--out", help="JSON file for the figures, rewritten after every row")
    return parser.parse_args()


def main() -> None:
    """Print the table."""
    arguments = parse_arguments()
    with one_line_errors():
        rows = choose_rows(arguments.rows)
        if arguments.device == "cuda":
            require_cuda()
            print(excluded_line(rows))
            rows = [row for row in rows if row.on_cuda]
        if arguments.list:
            print("\n".join(f"{row.name:<34}  {row.note}".rstrip() for row in rows))
            return
        with use_threads(arguments.threads):
            machine = describe_machine(arguments.threads, arguments.device)
        print(machine_lines(machine), flush=True)
        if arguments.profile:
            for row in rows:
                print(profile_line(row, machine), flush=True)
            return
        print(f"\n{header()}", flush=True)
        results = []
        for row in rows:
            results.append(measure(row, machine, arguments.repeats))
            print(table_line(results[-1]), flush=True)
            if arguments.out:
                write_json(arguments.out, machine, results)


def choose_rows(starts: list[str] | None) -> list[Row]:
    """Return the rows whose names start with one of `starts`, in the order of the table."""
    unknown = [start for start in starts or () if not any(row.name.startswith(start) for row in ROWS)]
    if unknown:
        raise ValueError(f"--rows: no row starts with {unknown[0]!r}; known: {', '.join(row.name for row in ROWS)}")
    return [row for row in ROWS if starts is None or row.name.startswith(tuple(starts))]


def excluded_line(rows: list[Row]) -> str:
    """Return the line that names the rows which always run on the processor."""
    names = [row.name for row in rows if not row.on_cuda]
    return f"excluded, since they run on the processor: {', '.join(names) or 'none'}"


if __name__ == "__main__":
    main()
