"""TAP from Python: one line for each check, the plan at the end."""

import sys
import traceback

count = failed = 0


def ok(condition, name):
    global count, failed
    count += 1
    failed += not condition
    print(f"{'ok' if condition else 'not ok'} {count} - {name}", flush=True)
    return bool(condition)


def equal(got, want, name):
    if not ok(got == want, name):
        print(f"#      got: {got!r}\n# expected: {want!r}", flush=True)


def below(got, limit, name):
    if not ok(got < limit, name):
        print(f"# {got!r} is not below {limit!r}", flush=True)


def run(main):
    """Run main() and leave with the verdict; an exception is a failed check."""
    try:
        main()
    except Exception:
        ok(False, "no exception")
        print("# " + traceback.format_exc().replace("\n", "\n# "), flush=True)
    print(f"1..{count}")
    sys.exit(failed > 0 or count == 0)
