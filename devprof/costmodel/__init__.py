"""Predicts what a training step costs on a device: seconds and peak memory, with honest intervals.

From few measurements of some models on a device to any model on it. The way of the data::

    runs --samples--> samples --base, memory--> coefficients --lines--> corrected by what was measured
      trace (meta device) --features--^            |--evaluate--> errors --interval--> widths

- ``model``: :class:`~devprof.costmodel.model.CostModel`, what users meet: fit, predict, save, load.
- ``features``: what a training step consists of; families of models; the ``Tracer`` protocol. No torch.
- ``operators``: which family an operator belongs to and how much work it is. ``trace``: counts a step on the meta
  device; the only module that imports torch.
- ``samples``: from a table of runs to what can be learned from, with a reason for each row that cannot.
- ``base``: seconds as a non-negative sum over operator families.
- ``memory``: peak bytes as a non-negative sum of what a step holds.
- ``lines``: costs as straight lines in the batch size, and how a measured model corrects its line.
- ``predictor``: base, corrections and interval of one cost on one device.
- ``evaluate``: leave-one-family-out, leave-one-model-out, leave-one-batch-size-out.
- ``interval``: 90 % intervals by what is known of a model.
- ``summary``: the report of a fit.
- ``state``, ``persist``: a fitted model as plain data, and as a file.

Nothing is imported here, because most users of one module do not need the others.
"""
