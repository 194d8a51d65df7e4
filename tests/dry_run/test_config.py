"""The dry run finds arguments that would end a run after its start."""

import importlib.util
from pathlib import Path

import pytest

from tspo_trl.dry_run.launch import Launch

from .dry_runs import check_fixture, lines, model_fixture, questions_fixture  # noqa: F401


def test_output_folder_that_is_a_file_is_a_problem(check, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        (problem,) = check(output_dir=str(path)).problems
        assert problem.startswith("Configuration: `output_dir` is ")
        assert f"{tmp_path / 'file'} is a file" in problem
    assert check(output_dir=str(tmp_path / "new" / "folder")).problems == []
    assert not (tmp_path / "new").exists()


def test_evaluation_without_a_file_is_a_problem(check, questions):
    changes = {"eval_strategy": "steps", "eval_steps": 1}
    (problem,) = check(**changes).problems
    assert problem == "Configuration: `eval_strategy` is 'steps', but there is no `eval_file`. Pass one."
    assert check(**changes, files={"eval_file": questions}).problems == []


def test_checkpoint_that_is_not_there_is_a_problem(check, tmp_path):
    (problem,) = check(resume_from_checkpoint=str(tmp_path / "checkpoint-5")).problems
    assert "`resume_from_checkpoint` is " in problem
    assert "no complete checkpoint is there" in problem
    assert check(resume_from_checkpoint="true").problems == []
    checkpoint = tmp_path / "checkpoint-6"
    checkpoint.mkdir()
    (checkpoint / "trainer_state.json").write_text('{"global_step": 6}', encoding="utf-8")
    assert check(resume_from_checkpoint=str(checkpoint)).problems == []


def test_8_bit_weights_in_colocated_vllm_are_a_problem(check):
    (problem,) = check(model={"load_in_8bit": True}, use_vllm=True).problems
    assert "does not take `load_in_8bit`" in problem
    assert check(model={"load_in_4bit": True}, use_vllm=True).problems == []
    assert check(model={"load_in_8bit": True}, use_vllm=True, vllm_mode="server").problems == []
    assert check(model={"load_in_8bit": True}).problems == []


@pytest.mark.parametrize("bits", ["load_in_4bit", "load_in_8bit"])
def test_quantized_model_without_adapters_is_a_problem(check, bits):
    (problem,) = check(model={bits: True, "use_peft": False}).problems
    assert "train adapters (`use_peft`)" in problem


def test_tensor_parallel_size_that_does_not_divide_the_heads_is_a_problem(check):
    # The model has 16 attention heads.
    (problem,) = check(Launch(6, "ddp"), use_vllm=True, vllm_tensor_parallel_size=3).problems
    assert problem == "Model: `vllm_tensor_parallel_size=3` does not divide 16 attention heads. Lower it."
    assert check(Launch(6, "ddp"), use_vllm=True, vllm_tensor_parallel_size=2).problems == []
    assert check(Launch(6, "ddp"), vllm_tensor_parallel_size=3).problems == []


@pytest.mark.parametrize(
    ("package", "module", "changes"),
    [
        ("wandb", "wandb", {"report_to": ["wandb"]}),
        ("flash-attn", "flash_attn", {"model": {"attn_implementation": "flash_attention_2"}}),
    ],
)
def test_package_that_is_not_here_is_a_warning(check, package, module, changes):
    if importlib.util.find_spec(module):
        pytest.skip(f"{module} is installed")
    warning = f"{package} is needed and not installed here: pip install {package}"
    report = check(**changes)
    assert report.problems == []
    assert warning in report.warnings
    assert warning not in check().warnings


def test_broken_tokenizer_is_a_problem(check, tmp_path, model_without_weights):
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(Path(model_without_weights, name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    report = check(model={"model_name_or_path": str(tmp_path)})
    (problem,) = report.problems
    assert problem.startswith("Context: ")
    assert "peak" in lines(report, "Memory of a GPU (an estimate)")
