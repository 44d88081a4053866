"""Predicts what a training step costs on a device: seconds, joules and peak memory, with honest intervals.

From few measurements of some models on a device to any model on it. The way of the data::

    runs --samples--> observations --pool, memory--> costs --predictor--> corrected by what was measured
      trace (meta device) --features--^                |--heldout--> residuals --interval--> widths

- ``model``: :class:`~devprof.costmodel.model.CostModel`, what users meet: fit, predict, save, load. ``table``: many queries.
- ``signature``, ``operators``: one operator call as text; which family it belongs to and how much work it is.
- ``trace``: records a step on the meta device; the only module that imports torch. ``step``: what it recorded.
- ``features``: what a training step consists of, whatever the batch size; the ``Tracer`` protocol. No torch.
- ``families``: families and kinds of models, by name.
- ``samples``: from a table of runs to what can be learned from, with a reason for each row that cannot.
- ``base``: seconds as a sum over kinds of work. ``effects``: what siblings say beyond it. ``pool``: fits both to kin devices.
- ``memory``: peak bytes as a non-negative sum of what a step holds. ``capacity``: the largest batch that fits.
- ``metering``: what a row says of power. ``power``: watts as a sum over kinds of work. ``energy``: joules of a step, from
  time and power; ``energy_fitting`` makes its predictor. ``power_limits``: power, time and energy between two power limits.
- ``corrections``: how a measured model corrects its own prediction.
- ``operator_times``: what single operators take. ``calibrated``: a step as their sum. ``calibrations``: from a table of them.
- ``suggest``: which models are worth measuring.
- ``predictor``: base, effects, corrections and interval of one cost on one device. ``fitting``: makes it.
- ``conditions``: what rows tell of loading and heat. ``adapt``: predictions corrected by observed rounds.
- ``devices``: all predictors of all devices of a table.
- ``heldout``: residuals of what was left out. ``interval``: 90 % intervals from them. ``evaluate``: errors from them.
- ``newdevice``: devices treated as new. ``leftout``: what was predicted without being seen. ``dataused``: what was measured.
- ``summary``: the report of a fit. ``limits``: what it is not for. ``card``, ``rates``: both in words.
- ``state``, ``persist``: a fitted model as plain data, and as a file. ``solver``: the numerical methods.

Nothing is imported here, because most users of one module do not need the others.
"""
