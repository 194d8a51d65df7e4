"""Training with the tool calls of the chat template."""

import pytest

from tspo_trl.protocols.chat import ChatToolProtocol
from tspo_trl.rollout.generation import tokenize_prompts
from tspo_trl.rollout.prompts import row_prompt


@pytest.fixture
def chat_trainer(make_trainer, chat_model_path, chat_tokenizer):
    def make(**changes):
        kwargs = {"protocol": ChatToolProtocol(chat_tokenizer), **changes.pop("trainer_kwargs", {})}
        limits = {"max_turn_length": 90, "max_feedback_length": 200, "max_completion_length": 700}
        return make_trainer(model=chat_model_path, trainer_kwargs=kwargs, **limits, **changes)

    return make


def prompt_of(trainer, question):
    row = row_prompt({"question": question}, trainer._tokenizer, trainer.protocol)
    return trainer._tokenizer.decode(tokenize_prompts(trainer, [row], trainer.protocol.tools)[0])


def test_training_changes_every_parameter_and_runs_no_tools_of_trl(chat_trainer):
    trainer = chat_trainer(max_steps=1)
    before = {name: parameter.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    assert all(not parameter.equal(before[name]) for name, parameter in trainer.model.named_parameters())
    assert not trainer.tools
    assert "tools/call_frequency" not in trainer.state.log_history[0]


def test_prompt_shows_the_search_as_a_tool(chat_trainer):
    prompt = prompt_of(chat_trainer(), "Who?")
    assert '{"type": "function", "function": {"name": "search"' in prompt
    assert prompt.endswith("Question: Who?<|im_end|>\n<|im_start|>assistant\n")


def test_evidence_of_every_call_is_credited(chat_trainer):
    trainer = chat_trainer()
    trainer.model.train()
    trainer._generate_and_score_completions([trainer.train_dataset[0]] * 16)
    trajectories = trainer._trajectories
    assert any(len(turn.queries) == 2 for one in trajectories for turn in one.turns)
    for record, trajectory in zip(trainer._trajectory_files.records["train"], trajectories, strict=True):
        hits = [k for k, turn in enumerate(trajectory.turns) if "Paris" in (turn.evidence or "")]
        assert record["first_occurrence"] == (hits[0] if hits else None)


def test_reward_functions_read_tool_messages(chat_trainer):
    seen = []

    def reward(completions, **kwargs):
        seen.extend(completions)
        return [0.0] * len(completions)

    trainer = chat_trainer(trainer_kwargs={"reward_funcs": [reward]})
    trainer._generate_and_score_completions([trainer.train_dataset[0]] * 16)
    roles = {tuple(message["role"] for message in messages[:2]) for messages in seen}
    assert ("assistant", "tool") in roles
    assert any("tool_calls" in messages[0] for messages in seen)


def test_variables_of_the_chat_template_are_the_same_in_prompt_and_feedback(chat_trainer, chat_tokenizer):
    protocol = ChatToolProtocol(chat_tokenizer, chat_template_kwargs={"enable_thinking": False})
    with pytest.raises(ValueError, match=r"`chat_template_kwargs` is None .* and {'enable_thinking': False} in `pro"):
        chat_trainer(trainer_kwargs={"protocol": protocol})


def test_prompt_is_rendered_with_the_protocols_template(chat_trainer, chat_tokenizer):
    protocol = ChatToolProtocol(chat_tokenizer)
    protocol.chat_template = "{% for message in messages %}{{ message.content }} so{% endfor %}"
    trainer = chat_trainer(trainer_kwargs={"protocol": protocol})
    assert prompt_of(trainer, "Who?").endswith("Question: Who? so")
