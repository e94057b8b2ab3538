"""Evaluate one experiment under its missing-modality conditions: ``python -m pipeline.evaluate EXPERIMENT``.

Writes data/results/EXPERIMENT/; equal runs give equal bytes (no clock, no timings):

predictions.csv: experiment, fold, run, condition, id, label, predicted, then p_<class> for every class; one row for
each test sample, condition and (fold, run). Conditions are named by what is *there* and stand in the paper's order:
a, v, t, av, at, vt, avt (a audio, v video, t text). A mask that draws instead of enumerating has one condition, named
like the mask.

metrics.json, for ``dvc metrics show``: a nested dict of numbers::

    {"average": {metric: {"mean", "std", "pooled"}},             over the six missing conditions
     "conditions": {condition: {metric: {"mean", "std", "pooled"}}}}

metric is wa, ua, macro_f1 or weighted_f1, in [0, 1]. mean and std (n - 1) are over (fold, run); pooled is computed once
from the predictions of all folds (mean over runs). "average" is the mean of the six conditions' values.

folds.csv: experiment, fold, run, condition, samples, wa, ua, macro_f1, weighted_f1; condition "average" stands for the
mean over the six missing conditions. This is what the t-test pairs.

confusion.csv: experiment, condition, label, predicted, count; all folds and runs together, every pair of classes.
"""
