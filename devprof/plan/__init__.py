"""Planning a round: from predicted step times to a deadline and each client's share of the work.

Sees predictions only through a protocol, so that a round can be planned from a cost model, from a table of known numbers or
from what clients were seen to do. Needs numpy and nothing else; knows nothing of Flower.

- :mod:`devprof.plan.estimator`: the protocol behind which predictions come.
- :mod:`devprof.plan.affine`: step time as a line in the batch size, through observed points.
- :mod:`devprof.plan.correction`: predictions corrected by what really happened, per board.
- :mod:`devprof.plan.roundtime`: arithmetic of one client's round.
- :mod:`devprof.plan.settings`: what the planner is told about clients and goals.
- :mod:`devprof.plan.columns`: the same as arrays: a table of step costs, and clients that name their row.
- :mod:`devprof.plan.fleet`: the costs of all clients; steps that fit a deadline and an energy budget at a given risk.
- :mod:`devprof.plan.energy`: steps of a fleet within one energy budget.
- :mod:`devprof.plan.deadline`: the deadline with the most effective work per second, and turns.
- :mod:`devprof.plan.reasons`: why a client is left out or cut down.
- :mod:`devprof.plan.fleetplan`: ``plan_fleet``, which puts these together for millions of clients.
- :mod:`devprof.plan.planner`: ``plan_round``, its front end for records.
- :mod:`devprof.plan.whatif`: what other choices would cost.
"""
