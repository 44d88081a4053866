"""Planning a round: from predicted step times to a deadline and each client's share of the work.

Sees predictions only through a protocol, so that a round can be planned from a cost model, from a table of known numbers or
from what clients were seen to do. Needs numpy and nothing else; knows nothing of Flower.

- :mod:`devprof.plan.estimator`: the protocol behind which predictions come.
- :mod:`devprof.plan.affine`: step time as a line in the batch size, through observed points.
- :mod:`devprof.plan.correction`: predictions corrected by what really happened, per board.
- :mod:`devprof.plan.roundtime`: arithmetic of one client's round.
- :mod:`devprof.plan.settings`: what the planner is told about clients and goals.
- :mod:`devprof.plan.fleet`: the costs of all clients as arrays; steps that fit a deadline at a given risk.
- :mod:`devprof.plan.deadline`: the deadline with the most effective work per second.
- :mod:`devprof.plan.planner`: ``plan_round``, which puts these together.
"""
