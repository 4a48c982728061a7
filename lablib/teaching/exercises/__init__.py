"""The exercises of the labs, as data that ``lablib.teaching.checks`` runs: one module for each lab."""

from lablib.teaching.exercises import projection_layers, saddle_point

EXERCISES = {exercise.name: exercise for exercise in (*projection_layers.EXERCISES, *saddle_point.EXERCISES)}
