"""What each embedding, rerank and chat API asks and answers, by path.

A dialect reads a request into a Call and writes an answer from (index, element text) pairs, so that one
set of faults serves them all.  An element text is a JSON value: an array of numbers or a base64 string.
"""

import json
import re
from dataclasses import dataclass, field


class Refused(Exception):
    """The service does not take this request: status and message for the client."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class Call:
    dialect: str
    model: str
    texts: list
    body: dict
    encoded: bool = False  # base64 asked for
    query: str = ""  # rerank
    dimensions: int | None = None
    extra: dict = field(default_factory=dict)


def text_list(value, name):
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise Refused(400, f"'{name}' must be a string or a non-empty array of strings")
    return texts


def json_index(index):
    return index if type(index) is int else json.dumps(index)


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def overlap(query, text):
    """The fake rerank score: the share of the query's words that the text has."""
    asked = words(query)
    return len(asked & words(text)) / len(asked) if asked else 0.0


def tokens(text):
    return len(text.split()) + 2


# ---- openai ------------------------------------------------------------------


def openai_read(body):
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise Refused(400, f"encoding_format '{encoding}' is not supported")
    if not isinstance(body.get("model"), str):
        raise Refused(400, "'model' is missing")
    return Call("openai", body["model"], text_list(body.get("input"), "input"), body, encoding == "base64",
                dimensions=body.get("dimensions"))


def openai_write(call, items):
    data = ",".join(f'{{"object":"embedding","index":{json_index(i)},"embedding":{e}}}' for i, e in items)
    n = sum(map(tokens, call.texts))
    return (f'{{"object":"list","data":[{data}],"model":{json.dumps(call.model)},'
            f'"usage":{{"prompt_tokens":{n},"total_tokens":{n}}}}}')


def openai_error(status, message):
    return json.dumps({"error": {"message": message, "type": "invalid_request_error" if status < 500 else "server_error",
                                 "param": None, "code": None}})


# ---- ollama --------------------------------------------------------------------


def ollama_read(body):
    return Call("ollama", body.get("model", ""), text_list(body.get("input"), "input"), body)


def ollama_write(call, items):
    data = ",".join(e for _, e in items)
    return (f'{{"model":{json.dumps(call.model)},"embeddings":[{data}],"total_duration":14143917,'
            f'"load_duration":1019500,"prompt_eval_count":{sum(map(tokens, call.texts))}}}')


def ollama_error(status, message):
    return json.dumps({"error": message})


# ---- tei -----------------------------------------------------------------------


def tei_read(body):
    return Call("tei", "", text_list(body.get("inputs"), "inputs"), body, dimensions=body.get("dimensions"))


def tei_write(call, items):
    return "[" + ",".join(e for _, e in items) + "]"


def tei_error(status, message):
    kind = {413: "Validation", 422: "Tokenizer", 429: "Overloaded"}.get(status, "Validation" if status < 500 else "Backend")
    return json.dumps({"error": message, "error_type": kind})


# ---- cohere --------------------------------------------------------------------


def cohere_read(body):
    kinds = body.get("embedding_types") or ["float"]
    if not isinstance(body.get("model"), str):
        raise Refused(400, "invalid request: model is required")
    if body.get("input_type") not in ("search_document", "search_query", "classification", "clustering"):
        raise Refused(400, "invalid request: valid input_type must be provided with the provided model")
    if kinds not in (["float"], ["base64"]):
        raise Refused(400, f"invalid request: embedding_types {kinds} are not supported")
    return Call("cohere", body["model"], text_list(body.get("texts"), "texts"), body, kinds == ["base64"],
                dimensions=body.get("output_dimension"))


def cohere_write(call, items):
    kind = "base64" if call.encoded else "float"
    data = ",".join(e for _, e in items)
    return (f'{{"id":"fake","embeddings":{{"{kind}":[{data}]}},"texts":{json.dumps(call.texts)},'
            f'"meta":{{"api_version":{{"version":"2"}},"billed_units":{{"input_tokens":{sum(map(tokens, call.texts))}}}}}}}')


def cohere_error(status, message):
    return json.dumps({"id": "fake", "message": message})


# ---- rerank: Cohere's and Jina's form (one differs by "return_documents"), TEI's -----


def rerank_read(body):
    if not isinstance(body.get("query"), str):
        raise Refused(400, "'query' is missing")
    documents = body.get("documents")
    if isinstance(documents, list):
        documents = [d["text"] if isinstance(d, dict) and "text" in d else d for d in documents]
    return Call("rerank", body.get("model", ""), text_list(documents, "documents"), body, query=body["query"])


def rerank_write(call, items):
    documents = call.body.get("return_documents")
    results = []
    for i, score in items:
        document = ""
        if documents and isinstance(i, int) and 0 <= i < len(call.texts):
            document = f',"document":{{"text":{json.dumps(call.texts[i])}}}'
        results.append(f'{{"index":{json_index(i)},"relevance_score":{score}{document}}}')
    return (f'{{"id":"fake","model":{json.dumps(call.model)},"results":[{",".join(results)}],'
            f'"usage":{{"total_tokens":{sum(map(tokens, call.texts))}}}}}')


def tei_rerank_read(body):
    if not isinstance(body.get("query"), str):
        raise Refused(422, "missing field `query`")
    return Call("tei-rerank", "", text_list(body.get("texts"), "texts"), body, query=body["query"])


def tei_rerank_write(call, items):
    return "[" + ",".join(f'{{"index":{json_index(i)},"score":{score}}}' for i, score in items) + "]"


# ---- chat ------------------------------------------------------------------------


def chat_read(body):
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "'messages' is missing")
    texts = [m.get("content") for m in messages if isinstance(m, dict)]
    return Call("chat", body.get("model", ""), text_list(texts, "messages"), body)


def chat_write(call, content):
    n = sum(map(tokens, call.texts))
    return json.dumps({
        "id": "chatcmpl-fake", "object": "chat.completion", "created": 0, "model": call.model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": n, "completion_tokens": tokens(content), "total_tokens": n + tokens(content)}})


# path -> (what it does, read, write, error)
PATHS = {
    "/v1/embeddings": ("embed", openai_read, openai_write, openai_error),
    "/api/embed": ("embed", ollama_read, ollama_write, ollama_error),
    "/embed": ("embed", tei_read, tei_write, tei_error),
    "/v2/embed": ("embed", cohere_read, cohere_write, cohere_error),
    "/v1/rerank": ("rerank", rerank_read, rerank_write, cohere_error),
    "/v2/rerank": ("rerank", rerank_read, rerank_write, cohere_error),
    "/rerank": ("rerank", tei_rerank_read, tei_rerank_write, tei_error),
    "/v1/chat/completions": ("chat", chat_read, chat_write, openai_error),
}
