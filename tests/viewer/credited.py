"""Makes lines of trajectory files with credit."""

from tspo_trl.trajectory import Trajectory, Turn, trajectory_to_dict


def credited(*turns, question="Capital of France?", golden_answers=("Paris",), end_reason="answered", **record):
    """
    A line of this package's files.

    A turn is `(query or None, evidence or None, reward, advantage)`. Without a query it answers with the prediction.
    """
    prediction = record.pop("prediction", "London")
    made = [
        Turn(
            f"<search> {query} </search>" if query else f"<answer> {prediction} </answer>",
            (i, i + 1),
            action="search" if query else "answer",
            content=query or prediction,
            queries=(query,) if query else (),
            feedback=evidence,
            evidence=evidence,
            reward=reward,
            advantage=advantage,
        )
        for i, (query, evidence, reward, advantage) in enumerate(turns)
    ]
    answers = list(golden_answers)
    return trajectory_to_dict(Trajectory(tuple(made), end_reason), question=question, golden_answers=answers, **record)


HIT = 'Doc 1(Title: "France") Its capital is Paris.\nDoc 2(Title: "Lyon") A city on the Rhone.'
MISS = 'Doc 1(Title: "Lyon") A city on the Rhone.'


def near_miss(**record):
    """Found in turn 1, then answered London."""
    turns = (("lyon", MISS, 0.0, 0.0), ("capital", HIT, 0.5, 0.7), (None, None, 0.0, 0.0))
    return credited(*turns, outcome=0.0, first_occurrence=1, **record)


def failure(**record):
    """Never found, answered London."""
    turns = (("lyon", MISS, 0.0, 0.0), ("rhone", MISS, 0.0, -0.7), (None, None, 0.0, 0.0))
    return credited(*turns, outcome=0.0, first_occurrence=None, **record)


def success(**record):
    """Found in turn 0 and answered right."""
    turns = (("capital", HIT, 1.0, 0.0), (None, None, 1.0, 0.0))
    return credited(*turns, outcome=1.0, first_occurrence=0, prediction="Paris", **record)
