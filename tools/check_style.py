#!/usr/bin/env python3
"""Formatting rules and the order of the rooms (src/README.md).  Prints each breach; exit status 1 when there is one."""
import pathlib
import re
import subprocess
import sys

TREE = pathlib.Path(__file__).resolve().parent.parent
ROOMS = {
    "base": set(),
    "kernel": set(),
    "vector": {"base", "kernel"},
    "quant": {"base", "kernel"},
    "distance_am": {"base"},
    "hnsw": {"base", "kernel", "vector", "quant", "distance_am"},
    "ivfflat": {"base", "kernel", "vector", "quant", "distance_am"},
    "library": {"base", "kernel", "vector", "quant", "distance_am", "hnsw", "ivfflat"},
    "http": {"base"},
    "queue": {"base"},
    "worker": {"base", "http", "queue"},
    "search": {"base", "http", "queue", "worker"},
}
WIDTH = 110
problems = []


def problem(path, line, text):
    problems.append(f"{path.relative_to(TREE)}:{line}: {text}")


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=TREE, capture_output=True, text=True)
    return [TREE / name for name in out.stdout.split("\n") if name and (TREE / name).is_file()]


def check_text(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            problem(path, number, "trailing white space")
        if path.suffix in (".c", ".h"):
            if len(line.expandtabs(4)) > WIDTH:
                problem(path, number, f"longer than {WIDTH} columns")
            if re.match(r" {4,}[^ *]", line):
                problem(path, number, "indented by spaces")
        if path.suffix == ".pl" and "->background_psql(" in line:
            problem(path, number, "a session of its own is VecsyncNode::session's, which answers alike on every version")
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line) and path.name != "check_style.py":
            problem(path, number, "unfinished work is an issue, not a comment")
    if text and not text.endswith("\n"):
        problem(path, text.count("\n") + 1, "no newline at the end")


def check_room(path, text):
    room = path.relative_to(TREE / "src").parts[0]
    if room not in ROOMS:
        problem(path, 1, f"no such room: {room}")
        return
    for number, line in enumerate(text.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s+"(\w+)/', line)
        if include and include[1] in ROOMS and include[1] != room and include[1] not in ROOMS[room]:
            problem(path, number, f"{room} may not include {include[1]}")
        if re.match(r'\s*#\s*include\s*[<"]curl/', line) and room != "http":
            problem(path, number, "only http may include libcurl")
        if re.match(r'\s*#\s*include\s*"postgres\.h"', line) and room == "kernel":
            problem(path, number, "kernel may not include postgres.h")
        if re.match(r'\s*#\s*include\s*"executor/spi\.h"', line) and room == "http":
            problem(path, number, "http may not use SQL")
        if "PG_VERSION_NUM" in line and path.name != "compat.h":
            problem(path, number, "only base/compat.h tests PG_VERSION_NUM")


def main():
    names = {}
    for path in tracked():
        relative = path.relative_to(TREE)
        if relative.parts[0] == "expected" or path.suffix in (".out", ".csv", ".tsv", ".png", ".svg", ".json", ".npy"):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        check_text(path, text)
        if relative.parts[0] == "src" and path.suffix in (".c", ".h"):
            check_room(path, text)
            if path.name in names:
                problem(path, 1, f"file name also used by {names[path.name].relative_to(TREE)}")
            names[path.name] = path
    print("\n".join(problems) if problems else "style: ok")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
