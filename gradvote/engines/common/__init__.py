"""What every engine for real workers does alike, so that a user's habit has one outcome everywhere.

parameters   which tensors are trained; what cannot be exchanged is refused
arguments    an algorithm, optimizers and the like were given, and not something else
optimizers   learning rates of one optimizer or several
trained      nothing was unfrozen or added after the start
directions   a gradient is never accumulated onto a direction; no decision is no gradient
scaling      loss scaling: gradients in true units, all ranks step or none
clipping     a worker's own gradient is bounded before the vote
step_watch   what the optimizer gets is what the vote gave
owners       the live modules that parameters belong to
"""
