#!/usr/bin/env python3
"""Draft an update script of vecsync: tools/draft_update.py test/update/vecsync--OLD.sql > sql/updates/vecsync--OLD--NEW.sql

Compares a frozen install script with the pieces of the present one, statement by statement: what is new or
changed comes out in the install script's order, functions and views as OR REPLACE where that will do.  What ALTER TABLE
has to do, and what happens to rights and rows, is for a human; test/t/023_update.pl says whether the result is
complete.
"""

import pathlib
import re
import sys


def statements(text):
    """The statements of a script, without comments between them."""
    result, current, i, atomic = [], "", 0, False
    while i < len(text):
        rest = text[i:i + 200]
        if rest.startswith("--") or rest.startswith("\\"):
            end = text.find("\n", i) + 1 or len(text)
            piece = text[i:end] if current.strip() else ""
        elif rest[0] == "'":
            end = i + 1
            while text[end] != "'" or text[end:end + 2] == "''":
                end += 2 if text[end] == "'" else 1
            end += 1
            piece = text[i:end]
        elif quote := re.match(r"\$\w*\$", rest):
            end = text.index(quote.group(), i + len(quote.group())) + len(quote.group())
            piece = text[i:end]
        else:
            if rest.startswith("BEGIN ATOMIC"):
                atomic = True
            elif atomic and re.match(r"END;", rest):
                atomic = False
            end, piece = i + 1, text[i]
        current += piece
        if piece == ";" and not atomic:
            result.append(current.strip())
            current = ""
        i = end
    return result


def normal(statement):
    return re.sub(r"\s+", " ", statement)


def made(statement):
    """(kind, name) of a CREATE statement; of functions without what no other depends on."""
    found = re.match(r"CREATE (FUNCTION|TABLE|VIEW|EVENT TRIGGER|TRIGGER|INDEX|SEQUENCE) ([\w.]+)", statement)
    return found.groups() if found else None


def header(statement):
    """A function up to what it is written in, without the defaults, which may be replaced."""
    return re.sub(r" DEFAULT [^,)]+", "", normal(re.match(r"CREATE FUNCTION (.*?)\s+LANGUAGE\b", statement, re.S).group(1)))


def identity(statement):
    """name(types) as DROP FUNCTION wants it: names of the arguments and OUT arguments go."""
    name, inside = re.match(r"([\w.]+)\s*\((.*?)\)(?:\s+RETURNS|$)", header(statement), re.S).groups()
    types = [a.strip() for a in re.split(r",(?![^(]*\))", inside) if a.strip() and not a.strip().startswith("OUT ")]
    return f"{name}({', '.join(re.sub(r'^(IN |VARIADIC )?[a-z_]+ (?=.)', '', t) for t in types)})"


def key(statement):
    """What a statement makes; a function by its types, since there may be several of a name."""
    kind = made(statement)
    return kind and (kind[0], identity(statement) if kind[0] == "FUNCTION" else kind[1])


def main():
    tree = pathlib.Path(__file__).parent.parent
    old = statements(pathlib.Path(sys.argv[1]).read_text())
    new = [s for f in sorted((tree / "sql/install/vecsync").glob("*.sql")) for s in statements(f.read_text())]
    known = {normal(s) for s in old}
    before = {key(s): s for s in old if made(s)}
    after = {key(s): s for s in new if made(s)}
    print("-- by hand: " + ", ".join(" ".join(key(s)) for s in new if key(s) in before and normal(s) not in known
                                     and made(s)[0] not in ("FUNCTION", "VIEW")))

    def goes(s):
        return made(s) and (key(s) not in after or made(s)[0] == "FUNCTION" and header(after[key(s)]) != header(s))

    # views go with the functions they read; the newest first, for they are written in terms of the older
    functions = [made(s)[1] for s in old if goes(s) and made(s)[0] == "FUNCTION"]
    gone = [s for s in old if goes(s) or made(s) and made(s)[0] == "VIEW" and any(f + "(" in s for f in functions)]
    dropped = [made(s)[1] for s in gone]
    for s in reversed(gone):
        print(f"DROP {' '.join(key(s))};")
    for s in new:
        about = re.match(r"(?:COMMENT|REVOKE|GRANT)\b.*?\bON (?:FUNCTION |VIEW )?([\w.]+)", s, re.S)
        kind = made(s)
        if normal(s) in known and not (about and about.group(1) in dropped) and not (kind and kind[1] in dropped):
            continue
        if kind and kind[0] == "FUNCTION" and key(s) in before and header(before[key(s)]) == header(s):
            s = s.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
        elif kind and kind[0] == "VIEW" and key(s) in before and kind[1] not in dropped:
            s = s.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1)
        elif kind and key(s) in before and kind[0] not in ("FUNCTION", "VIEW"):
            continue
        print("\n" + s)


if __name__ == "__main__":
    main()
