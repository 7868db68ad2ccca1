"""Experiments, records and report of the MPCViT reproduction.

Public modules: `mpcvit_harness.cells` (what an experiment lists), `mpcvit_harness.cell_record` (their records),
`mpcvit_harness.paper_models` and `mpcvit_harness.open_models` (models of the two divisions), `mpcvit_harness.trainings`
(trainings as cells), `mpcvit_harness.errors`. The pytest plugin and the command `mpcvit-report` use the others.
"""
