#!/usr/bin/env python3
"""Queries with known answers over a sample of texts, for test/bench/relevance.sh.

    relevance.py TEXTS DOCUMENTS QUERIES SEED > queries.tsv        (and documents.tsv on file descriptor 3)

TEXTS is a file of WordNet glosses, each line ending in "lemmas: gloss", or a CSV of packages (name, summary, description).
A document has a title (the first lemma, the name) and a body.  Kinds of queries, each with one right document:
  misspelt     the title with a typing error
  keyword      two words of the body that few other documents have, and one of the title
  paraphrase   the body without its title, every third word left out, words replaced by a synonym where WordNet has one
  synonym      another lemma, which shares no word with the document (glosses only)
"""

import csv
import os
import random
import re
import sys

STOP = set("a an and as at be by for from in is it its not of on or that the this to was which who with without any some used "
           "especially usually having being into than one two more most other such when where their they has have are".split())


def words(text):
    return re.findall(r"[a-z]{3,}", text.lower())


def misspell(rng, word):
    i = rng.randrange(1, max(2, len(word) - 1))
    kind = rng.choice("dsxi")
    if kind == "d":
        return word[:i] + word[i + 1:]
    if kind == "s":
        return word[:i - 1] + word[i:i + 1] + word[i - 1] + word[i + 1:]
    if kind == "x":
        return word[:i] + rng.choice("aeioulnrst") + word[i + 1:]
    return word[:i] + word[i] + word[i:]


def glosses(path):
    """[(title, body, other titles)] and the synonyms of the words."""
    with open(path, encoding="utf-8") as f:
        texts = [line.rstrip("\n").split("\t")[-1].partition(":") for line in f]
    synonyms, documents = {}, []
    for title, _, body in texts:
        lemmas = [x.strip() for x in title.split(",")]
        for lemma in lemmas:
            if re.fullmatch(r"[a-z]{4,}", lemma):
                synonyms.setdefault(lemma, set()).update(x for x in lemmas if x != lemma and re.fullmatch(r"[a-z ]{4,}", x))
        own = set(words(lemmas[0] + " " + body))
        documents.append((lemmas[0], body.strip(), [x for x in lemmas[1:] if len(x) >= 4 and not own & set(words(x))]))
    return documents, synonyms


def packages(path):
    with open(path, encoding="utf-8", newline="") as f:
        return [(row["name"], row["summary"] + ". " + " ".join(row["description"].split()), []) for row in csv.DictReader(f)], {}


def main():
    path, ndocuments, nqueries, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    texts, synonyms = packages(path) if path.endswith(".csv") else glosses(path)
    usable = [i for i, (_, body, _) in enumerate(texts) if len(words(body)) >= 6]
    ids = sorted(rng.sample(usable, min(ndocuments, len(usable))))
    frequency = {}
    for i in ids:
        for word in set(words(texts[i][0] + " " + texts[i][1])):
            frequency[word] = frequency.get(word, 0) + 1
    with os.fdopen(3, "w", encoding="utf-8") as out:
        for i in ids:
            out.write(f"{i}\t{texts[i][0]}\t{texts[i][1]}\n".replace("\\", "\\\\"))
    for kind in ("misspelt", "keyword", "paraphrase", "synonym"):
        fit = [i for i in ids if texts[i][2]] if kind == "synonym" else ids
        for i in rng.sample(fit, min(nqueries, len(fit))):
            title, body, others = texts[i]
            content = [w for w in words(body) if w not in STOP][:24]
            if kind == "misspelt":
                parts = title.split()
                n = max(range(len(parts)), key=lambda k: len(parts[k]))
                if len(parts[n]) >= 4:
                    parts[n] = misspell(rng, parts[n])
                query = " ".join(parts)
            elif kind == "keyword":
                rare = sorted(set(content), key=lambda w: (frequency.get(w, 0), w))[:2]
                query = " ".join(rare + [title.split()[0]])
            elif kind == "paraphrase":
                kept = [w for k, w in enumerate(content) if k % 3 != 2]
                query = " ".join(rng.choice(sorted(synonyms[w])) if synonyms.get(w) and rng.random() < 0.5 else w for w in kept)
            else:
                query = rng.choice(others)
            print(f"{kind}\t{i}\t{query}".replace("\\", "\\\\"))


if __name__ == "__main__":
    main()
