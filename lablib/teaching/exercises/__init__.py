"""The exercises of the labs, as data that ``lablib.teaching.checks`` runs: one module for each lab."""

from lablib.teaching.exercises import (
    augmented_lagrangian,
    fenchel_lifting,
    frank_wolfe_rollouts,
    polyhedra,
    projection_layers,
    saddle_point_lagrangian,
)

LABS = (
    projection_layers,
    polyhedra,
    frank_wolfe_rollouts,
    saddle_point_lagrangian,
    fenchel_lifting,
    augmented_lagrangian,
)
EXERCISES = {exercise.name: exercise for lab in LABS for exercise in lab.EXERCISES}
