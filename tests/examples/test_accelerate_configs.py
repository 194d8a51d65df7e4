"""Accelerate reads the configurations in `examples/`, and they match their names."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DistributedType

from tspo_trl.dry_run import DryRunArguments, planned_launch
from tspo_trl.dry_run.launch import Launch

FOLDER = Path(__file__).parents[2] / "examples" / "accelerate_configs"
EXPECTED = {
    "single_gpu": (DistributedType.NO, Launch(1, "single")),
    "ddp": (DistributedType.MULTI_GPU, Launch(8, "ddp")),
    "zero2": (DistributedType.DEEPSPEED, Launch(8, "zero2")),
    "zero3": (DistributedType.DEEPSPEED, Launch(8, "zero3")),
    "fsdp2": (DistributedType.FSDP, Launch(8, "fsdp")),
    "multi_node": (DistributedType.DEEPSPEED, Launch(16, "zero3")),
}


def test_every_configuration_is_tested():
    assert {path.stem for path in FOLDER.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    distributed_type, launch = EXPECTED[name]
    assert config.distributed_type == distributed_type
    assert config.num_processes == launch.num_processes
    assert config.mixed_precision == "bf16"
    assert not config.use_cpu


@pytest.mark.parametrize("name", EXPECTED)
def test_dry_run_reads_it(name):
    path = str(FOLDER / f"{name}.yaml")
    assert planned_launch(DryRunArguments(dry_run_accelerate_config=path)) == EXPECTED[name][1]


def test_number_of_processes_on_the_command_line_wins():
    args = DryRunArguments(dry_run_accelerate_config=str(FOLDER / "zero3.yaml"), dry_run_num_processes=4)
    assert planned_launch(args) == Launch(4, "zero3")


@pytest.mark.parametrize("name", ["zero2", "zero3", "multi_node"])
def test_every_deepspeed_key_is_an_option_of_accelerate_launch(name):
    options = vars(launch_command_parser().parse_args(["script.py"]))
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert set(config.deepspeed_config) <= set(options)


def test_every_fsdp_key_is_an_option_of_accelerate_launch():
    options = vars(launch_command_parser().parse_args(["script.py"]))
    config = load_config_from_file(str(FOLDER / "fsdp2.yaml"))
    assert set(config.fsdp_config) <= set(options)


def test_fsdp_environment_builds_a_plugin_of_version_2(monkeypatch):
    from accelerate.commands.launch import _validate_launch_command
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    command = ["--config_file", str(FOLDER / "fsdp2.yaml"), "script.py"]
    args, *_ = _validate_launch_command(launch_command_parser().parse_args(command))
    for key, value in prepare_multi_gpu_env(args).items():
        if key.startswith(("FSDP_", "ACCELERATE_USE_FSDP")):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.activation_checkpointing is False


def test_two_machines_have_sixteen_processes():
    config = load_config_from_file(str(FOLDER / "multi_node.yaml"))
    assert (config.num_machines, config.num_processes) == (2, 16)
    assert config.deepspeed_config["deepspeed_multinode_launcher"] == "standard"


def test_unknown_zero_stage_is_refused(tmp_path):
    path = tmp_path / "zero4.yaml"
    text = (FOLDER / "zero3.yaml").read_text(encoding="utf-8").replace("zero_stage: 3", "zero_stage: 4")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"`zero_stage` in .* is 4\. Set it to 1, 2 or 3"):
        planned_launch(DryRunArguments(dry_run_accelerate_config=str(path)))


def test_unknown_kind_of_launch_is_refused(tmp_path):
    path = tmp_path / "tpu.yaml"
    path.write_text("distributed_type: XLA\nnum_processes: 8\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"`distributed_type` in .*XLA"):
        planned_launch(DryRunArguments(dry_run_accelerate_config=str(path)))
