"""Evaluation of search agents: greedy rollouts on question sets, their scores and the report."""
