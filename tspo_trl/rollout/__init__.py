"""Search rollouts: the turn loop and the generation backends."""
