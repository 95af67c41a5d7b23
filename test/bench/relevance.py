#!/usr/bin/env python3
"""Queries with known answers over a sample of WordNet glosses, for test/bench/relevance.sh.

    relevance.py DATA DOCUMENTS QUERIES SEED > queries.tsv        (and documents.tsv on file descriptor 3)

A document is "lemmas: gloss".  Three kinds of queries, each with one right document:
  misspelt     the lemmas with one or two typing errors
  keyword      two words of the gloss that few other documents have, and a lemma
  paraphrase   the gloss without its lemma, every third word left out, words replaced by a synonym where WordNet has one
"""

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


def main():
    data, ndocuments, nqueries, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = random.Random(seed)
    with open(os.path.join(data, "texts.tsv"), encoding="utf-8") as f:
        lines = [line.rstrip("\n") for line in f]
    texts = [line.split("\t")[-1] for line in lines]
    synonyms = {}
    for text in texts:
        lemmas = [x.strip() for x in text.split(":", 1)[0].split(",")]
        for lemma in lemmas:
            if re.fullmatch(r"[a-z]{4,}", lemma):
                synonyms.setdefault(lemma, set()).update(x for x in lemmas if x != lemma and re.fullmatch(r"[a-z ]{4,}", x))
    ids = sorted(rng.sample([i for i, t in enumerate(texts) if ":" in t and len(words(t.split(":", 1)[1])) >= 6], ndocuments))
    frequency = {}
    for i in ids:
        for word in set(words(texts[i])):
            frequency[word] = frequency.get(word, 0) + 1
    with os.fdopen(3, "w", encoding="utf-8") as out:
        for i in ids:
            lemmas, gloss = texts[i].split(":", 1)
            out.write(f"{i}\t{lemmas.strip()}\t{gloss.strip()}\n".replace("\\", "\\\\"))
    for kind in ("misspelt", "keyword", "paraphrase"):
        for i in rng.sample(ids, nqueries):
            lemmas, gloss = texts[i].split(":", 1)
            lemma = lemmas.split(",")[0].strip()
            content = [w for w in words(gloss) if w not in STOP]
            if kind == "misspelt":
                parts = lemma.split()
                n = max(range(len(parts)), key=lambda k: len(parts[k]))
                if len(parts[n]) >= 4:
                    parts[n] = misspell(rng, parts[n])
                query = " ".join(parts)
            elif kind == "keyword":
                rare = sorted(set(content), key=lambda w: frequency.get(w, 0))[:2]
                query = " ".join(rare + [lemma.split()[0]])
            else:
                kept = [w for k, w in enumerate(content) if k % 3 != 2]
                query = " ".join(rng.choice(sorted(synonyms[w])) if synonyms.get(w) and rng.random() < 0.5 else w for w in kept)
            print(f"{kind}\t{i}\t{query}".replace("\\", "\\\\"))


if __name__ == "__main__":
    main()
