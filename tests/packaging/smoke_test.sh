#!/usr/bin/env bash
# Uses the first tspo-trl on PATH as a new user would, without training.
set -euo pipefail
cd "$(mktemp -d)"

tspo-trl --version
python -c 'import tspo_trl; print(tspo_trl.__file__)'
python -c 'from tspo_trl import TSPOConfig, TSPOTrainer'
python -c 'from tspo_trl.evaluation.metrics import load_metric
assert load_metric("exact_match").compute(predictions=["The Beatles"], references=[["Beatles"]]) == {"exact_match": 1.0}'

cat > corpus.jsonl <<'END'
{"id": "0", "title": "Paris", "text": "Paris is the capital of France."}
{"id": "1", "title": "Berlin", "text": "Berlin is the capital of Germany."}
{"id": "2", "title": "Madrid", "text": "Madrid is the capital of Spain."}
{"id": "3", "title": "Rome", "text": "Rome is the capital of Italy."}
{"id": "4", "title": "Seine", "text": "The Seine is a river in France."}
END
tspo-trl index --corpus corpus.jsonl --output indexes/five
tspo-trl search --index indexes/five --top-k 1 "capital of Italy" | tee found.txt
grep -q Rome found.txt

cat > rollouts.jsonl <<'END'
{"question": "Capital of France?", "golden_answers": ["Paris"], "prediction": "Lyon", "turns": [{"text": "<search> France </search>", "feedback": "Paris is the capital of France."}, {"text": "<answer> Lyon </answer>", "feedback": null}]}
END
tspo-trl analyze rollouts.jsonl --json > analysis.json
python -c 'import json; assert json.load(open("analysis.json"))'
tspo-trl view rollouts.jsonl --output report.html
grep -q "Capital of France?" report.html
echo "it works"
