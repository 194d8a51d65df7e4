"""Search as tool calls in the model's own chat template, for instruct models.

The template determines how a tool is shown, called and answered.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..trajectory import Trajectory
from .base import Call, Feedback, ParsedAction
from .chat_format import ChatFormat
from .passages import Passage, passages_text

# After Search-R1's prompt. It goes to the user message, because a template may write its own system message.
INSTRUCTIONS = (
    "Answer the given question. If you find you lack some knowledge, you can search for it with the tool `{tool}`. "
    "You can search as many times as you want, and call the tool several times in one message. If you find no further "
    "knowledge needed, provide the answer inside <answer> and </answer>, without detailed illustrations. For example, "
    "<answer> Beijing </answer>."
)
# Reply to an empty message, or to one that the length limit cut.
_HINT = (
    "Your last message held neither a tool call nor an answer. To search, call the tool `{tool}`. "
    "To give the final answer, put it between <answer> and </answer>."
)
_UNREADABLE = "Error: this tool call could not be read. It must be complete, and its arguments well-formed JSON."
_UNKNOWN_TOOL = "Error: unknown tool {name!r}. The only tool is `{tool}`."
_TOO_MANY_CALLS = "Error: a message may have {most} tool calls. This one was not made."
_WRONG_ARGUMENTS = "Error: `{tool}` takes exactly one argument, `query`, a string that is not empty."

_MAX_CALLS = 32  # calls of a turn that are searched
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_SURROGATE = re.compile("[\ud800-\udfff]")


class ChatToolProtocol:
    """
    Search as a tool of the chat template, for instruct models (Qwen2.5, Qwen3, Llama 3.1, ...).

    The model calls the tool in the format of its template, once or several times per turn. It reads one tool message
    per call, token for token as in TRL's own tool loop. A call that is malformed, names another tool or has other
    arguments gets an error message, which is no evidence, and so do all calls after the first 32 of a turn. The other
    calls of the turn are searched. A message without a call is the answer, as in TRL. If it contains
    `<answer> ... </answer>`, only the text inside is the answer.

    The protocol works with templates that TRL can parse and that end a turn with the tokenizer's end-of-sequence
    token: Qwen2.5, Qwen3, Qwen3.5 and later, Llama 3.1 and 3.2, LFM2, Nemotron 3. It refuses those of GLM-4, gpt-oss
    and Gemma 4, in which a call ends with another token.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The model's tokenizer, with its chat template.
        tool_name (`str`, *optional*, defaults to `"search"`):
            Name of the tool.
        instructions (`str`, *optional*):
            Text before the question in the user message. `{tool}` is replaced by the tool's name. The instructions
            should ask for `<answer>` and `</answer>`: without these tags, exact match compares the whole message.
        chat_template_kwargs (`dict`, *optional*):
            Further variables of the template, such as `enable_thinking`. Must equal those of [`~trl.GRPOConfig`].

    Raises:
        `ValueError`: If the tokenizer has no chat template or no end-of-sequence token, if the template shows no tool
            calls, cannot be parsed, changes earlier messages when later ones follow or ends its turns with another
            token, or if `tool_name` is not a word.

    Example:

    ```python
    >>> from transformers import AutoTokenizer
    >>> from tspo_trl import ChatToolProtocol

    >>> protocol = ChatToolProtocol(AutoTokenizer.from_pretrained("Qwen/Qwen2.5-3B-Instruct"))
    >>> protocol.parse('<tool_call>\\n{"name": "search", "arguments": {"query": "capital of France"}}\\n</tool_call>')
    ParsedAction(action='search', content='capital of France', calls=(Call(query='capital of France', error=None),))
    ```
    """

    stop_strings: tuple[str, ...] = ()

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        tool_name: str = "search",
        instructions: str = INSTRUCTIONS,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not re.fullmatch(r"\w+", tool_name, re.ASCII):
            raise ValueError(f"`tool_name` is {tool_name!r}: use letters, digits and underscores only.")
        self.tool_name = tool_name
        self.tools: list[Any] | None = [_tool_schema(tool_name)]
        self.instructions = instructions.replace("{tool}", tool_name)
        self.chat_template_kwargs = chat_template_kwargs or {}
        self._format = ChatFormat(tokenizer, tool_name, self.chat_template_kwargs)
        self.chat_template = self._format.chat_template
        self.turn_ending = self._format.turn_ending

    def prompt(self, question: str) -> list[dict[str, str]]:
        """
        Return the message that asks a question. The chat template adds the tool (`tools`).

        Args:
            question (`str`):
                Question. A question mark is added if it has none.

        Returns:
            `list[dict[str, str]]`: one user message.
        """
        question = question.strip()
        question = question if question.endswith("?") else question + "?"
        return [{"role": "user", "content": f"{self.instructions} Question: {question}"}]

    def parse(self, text: str, *, is_complete: bool = True) -> ParsedAction:
        """
        Read the calls or the answer from the text of one turn.

        If a turn contains both, the calls count, as in TRL's tool loop. Reasoning is never an answer. Of several
        answers the first counts, as in [`~tspo_trl.protocols.tags.TagProtocol`]. If the length limit cut the turn,
        only text between complete tags is an answer.

        Args:
            text (`str`):
                Text of the turn, with special tokens, without the end-of-sequence token.
            is_complete (`bool`, *optional*, defaults to `True`):
                `False` if the length limit cut the turn.

        Returns:
            [`ParsedAction`]
        """
        return self._action(self._format.read(text), is_complete)

    def _action(self, message: dict[str, Any], is_complete: bool) -> ParsedAction:
        calls = [
            self._read_call(call) if number < _MAX_CALLS else Call(None, _TOO_MANY_CALLS.format(most=_MAX_CALLS))
            for number, call in enumerate(message.get("tool_calls", []))
        ]
        # Text that begins like a call, but that the parser does not read as one.
        calls += [Call(None, _UNREADABLE)] * message["content"].count(self._format.call_marker)
        if calls:
            queries = [call.query for call in calls if call.query is not None]
            return ParsedAction("search" if queries else None, "\n".join(queries) if queries else None, tuple(calls))
        content = self._format.special_tokens.remove(message["content"]).strip()
        answer = _ANSWER.search(content)
        if answer is not None:
            return ParsedAction("answer", answer.group(1).strip())
        if content and is_complete:
            return ParsedAction("answer", content)
        return ParsedAction(None, None)

    def feedback(self, action: ParsedAction, found: Mapping[str, Sequence[Passage]]) -> list[Feedback]:
        """
        Return the feedback to a turn that did not answer.

        Args:
            action ([`ParsedAction`]):
                Action of the turn.
            found (mapping from `str` to sequences of [`~tspo_trl.search.Passage`]):
                Passages of each query, best first.

        Returns:
            `list[Feedback]`:
                One tool message per call, empty if the search found nothing. Without a call, a user message with a
                hint. The joined texts are what the template writes from the end of the turn to the start of the next.
        """
        if not action.calls:
            opening, closing = self._format.hint_frame
            return [Feedback(opening, _HINT.format(tool=self.tool_name), closing, retrieved=False)]
        opening, *closings = self._format.tool_frame(len(action.calls))
        parts = []
        for call, closing in zip(action.calls, closings, strict=True):
            body = (call.error or "") if call.query is None else passages_text(found[call.query])
            parts.append(Feedback(opening, self._format.body(body), closing, retrieved=call.query is not None))
            opening = ""
        return parts

    def messages(self, trajectory: Trajectory) -> list[dict[str, Any]]:
        """
        Convert a rollout to the messages that reward functions and logs read, as in TRL's own tool loop.

        Args:
            trajectory ([`Trajectory`]):
                Rollout.

        Returns:
            `list[dict]`:
                `assistant` messages, with `tool_calls` if every call of the turn is valid and as plain text otherwise.
                One `tool` message per call. A hint is a `user` message.

        Raises:
            `ValueError`: If another protocol or template wrote a feedback.
        """
        messages: list[dict[str, Any]] = []
        for turn in trajectory.turns:
            message = self._format.read(turn.text)
            calls = self._action(message, is_complete=True).calls
            if any(call.query is None for call in calls):
                message = {"content": turn.text}
            messages.append({"role": "assistant", **message})
            if turn.feedback is not None:
                messages += self._feedback_messages(turn.feedback, len(calls))
        return messages

    def _feedback_messages(self, feedback: str, num_calls: int) -> list[dict[str, str]]:
        frame = self._format.tool_frame(num_calls) if num_calls else self._format.hint_frame
        pattern = re.compile("(.*?)".join(map(re.escape, frame)), re.DOTALL)
        bodies = pattern.fullmatch(feedback.removeprefix(self.turn_ending))
        if bodies is None:
            raise ValueError(f"The feedback {feedback!r} does not answer {num_calls} calls in this chat template.")
        sender = {"role": "tool", "name": self.tool_name} if num_calls else {"role": "user"}
        return [{**sender, "content": body} for body in bodies.groups()]

    def _read_call(self, call: Any) -> Call:
        function = call.get("function") if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str):
            return Call(None, _UNREADABLE)
        if name != self.tool_name:
            # The model wrote the name, maybe with special tokens.
            name = self._format.special_tokens.break_up(name)
            return Call(None, _UNKNOWN_TOOL.format(name=name, tool=self.tool_name))
        arguments = function.get("arguments")
        query = arguments.get("query") if isinstance(arguments, dict) and len(arguments) == 1 else None
        # JSON may contain half of a surrogate pair ("\ud800"), which cannot be encoded as UTF-8.
        if not isinstance(query, str) or not query.strip() or _SURROGATE.search(query):
            return Call(None, _WRONG_ARGUMENTS.format(tool=self.tool_name))
        return Call(query.strip())


def _tool_schema(name: str) -> dict[str, Any]:
    query = {"type": "string", "description": "What to search for."}
    parameters = {"type": "object", "properties": {"query": query}, "required": ["query"]}
    description = "Search a collection of texts for the passages that match a query best."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
