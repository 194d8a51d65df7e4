"""A policy of a few rules, without a model, served through an OpenAI-compatible API.

    python benchmarks/scripted_policy.py [PORT]

It uses Search-R1's tags. First it searches for the question. Then it answers from the first passage, depending on the
question's first word:

- is, are, was, did, ...: "yes";
- when, or any question with "year": the first year in the passage that is not in the question;
- who, whom, whose, where: the first capitalized words in the passage that share no word with the question;
- otherwise, or if the passage has no such text: the passage's title.

The API has completions, chat completions and the list of models, without streaming. As in vLLM, stop strings are cut
off and named in `stop_reason`. Budgets are ignored, because turns are short.
"""

import re
import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = "scripted"

_QUESTION = re.compile(r"Question: (.*)")
_FEEDBACK = re.compile(r"<information>(.*?)</information>", re.DOTALL)
_FIRST_PASSAGE = re.compile(r'Doc 1\(Title: "?(.*?)"?\) (.*?)(?=\nDoc 2\(Title: |$)', re.DOTALL)
_YEAR = re.compile(r"\b(?:1\d{3}|20\d{2})\b")
_NAME = re.compile(r"[A-Z][\w'.-]*\w(?: (?:(?:of|the|and|de|von|van) )?[A-Z][\w'.-]*\w)*")
_ARTICLE = re.compile(r"^(?:A|An|The) ")
_BOOLEAN = {"is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could"}
_PERSON_OR_PLACE = {"who", "whom", "whose", "where"}
_NO_NAME = {"A", "An", "The", "In", "On", "At", "As", "By", "He", "She", "It", "They", "His", "Her", "Its", "This"}


def next_turn(rollout: str) -> str:
    """The next turn after the text of a rollout."""
    match = _QUESTION.search(rollout)
    question = match.group(1).strip() if match else rollout.strip()
    feedback = _FEEDBACK.findall(rollout[match.end() :] if match else "")
    if not feedback:
        return f"<search> {question} </search>"
    return f"<answer> {answer(question, feedback[-1])} </answer>"


def answer(question: str, passages: str) -> str:
    """The answer from the first passage, or "unknown" if there is none."""
    match = _FIRST_PASSAGE.search(passages)
    if match is None:
        return "unknown"
    title, text = match.groups()
    words = re.findall(r"\w+", question.lower())
    if words[:1] and words[0] in _BOOLEAN:
        return "yes"
    if "year" in words or words[:1] == ["when"]:
        found = [year for year in _YEAR.findall(text) if year not in words]
    elif not _PERSON_OR_PLACE.isdisjoint(words[:1]):
        found = [name for name in _names(text) if set(re.findall(r"\w+", name.lower())).isdisjoint(words)]
    else:
        found = []
    return found[0] if found else title


def _names(text: str) -> list[str]:
    """Runs of capitalized words, without a leading article."""
    names = (_ARTICLE.sub("", name) for name in _NAME.findall(text))
    return [name for name in names if name not in _NO_NAME]


class CompletionRequest(BaseModel):
    """A request of the completions API. Other fields are ignored."""

    prompt: str
    stop: str | list[str] | None = None


class Message(BaseModel):
    """A message of a conversation."""

    role: str
    content: str


class ChatRequest(BaseModel):
    """A request of the chat API. Other fields are ignored."""

    messages: list[Message]
    stop: str | list[str] | None = None


app = FastAPI()


@app.get("/v1/models")
def models() -> dict:
    """List the only model."""
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "benchmarks"}]}


@app.post("/v1/completions")
async def complete(request: CompletionRequest) -> dict:
    """Continue the text of a rollout."""
    text, ending = _stopped(next_turn(request.prompt), request.stop)
    return _response("text_completion", {"text": text, **ending})


@app.post("/v1/chat/completions")
async def chat(request: ChatRequest) -> dict:
    """Continue a conversation. Its messages are joined to the text of a rollout."""
    text, ending = _stopped(next_turn("\n".join(message.content for message in request.messages)), request.stop)
    return _response("chat.completion", {"message": {"role": "assistant", "content": text}, **ending})


def _stopped(text: str, stop: str | list[str] | None) -> tuple[str, dict]:
    """The text before the first stop string, and the reason for its end."""
    stops = [stop] if isinstance(stop, str) else stop or []
    first = min((one for one in stops if one in text), key=text.index, default=None)
    kept = text if first is None else text[: text.index(first)]
    return kept, {"finish_reason": "stop", "stop_reason": first}


def _response(kind: str, choice: dict) -> dict:
    return {
        "id": "0",
        "object": kind,
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "logprobs": None, **choice}],
    }


if __name__ == "__main__":
    listening = socket.create_server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
