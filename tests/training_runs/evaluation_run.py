"""One evaluation in several processes, started by torchrun. Each process writes its metrics.

    torchrun --nproc_per_node 2 tests/training_runs/evaluation_run.py MODEL INDEX QUESTIONS OUTPUT

Each process answers two questions at a time. Of five questions, the second round has one and three repeated ones.
"""

import json
import sys
from pathlib import Path

from tspo_trl import TSPOConfig, TSPOTrainer
from tspo_trl.data.questions import load_questions
from tspo_trl.search import BM25Retriever


def main(model, index, questions, output):
    args = TSPOConfig(
        output_dir=output,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=2,
        num_generations=4,
        max_turns=2,
        max_turn_length=24,
        max_feedback_length=60,
        max_completion_length=200,
        search_top_k=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    dataset = load_questions(questions)
    trainer = TSPOTrainer(
        model=model, args=args, train_dataset=dataset, eval_dataset=dataset, retriever=BM25Retriever(index)
    )
    metrics = trainer.evaluate()
    Path(output, f"metrics_{trainer.accelerator.process_index}.json").write_text(json.dumps(metrics), encoding="utf-8")
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(*sys.argv[1:])
