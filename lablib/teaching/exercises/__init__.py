"""The exercises of the labs, as data that ``lablib.teaching.checks`` runs: one module for each lab."""

from lablib.teaching.exercises import frank_wolfe_rollouts, projection_layers

EXERCISES = {exercise.name: exercise for exercise in (*projection_layers.EXERCISES, *frank_wolfe_rollouts.EXERCISES)}
