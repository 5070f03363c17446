"""What engines share. No engine imports another one: what two of them need is here.

What every engine for real workers does alike, so that a user's habit has one outcome everywhere:

training       all of the following together: the user's side of an engine
parameters     which tensors are trained; what cannot be exchanged is refused
device         gradients stay on the device where the votes began
arguments      an algorithm, optimizers and the like were given, and not something else
numbers        seeds, keys, times and counts are some
terms          what all workers must be given alike, and how an error names what is not
optimizers     learning rates of one optimizer or several
trained        nothing was unfrozen or added after the start
newcomers      nor were modules
misfits        optimizers and layers that a vote would ruin in silence
directions     a gradient is never accumulated onto a direction; no decision is no gradient
nodes          where autograd tells that it accumulates
dropped, kept  a direction whose gradient was taken away; one that is set aside
scaling        loss scaling: gradients in true units, all ranks step or none
clipping       a worker's own gradient is bounded before the vote
step_watch     what the optimizer gets is what the vote gave
own_step       an optimizer's step that nobody else sees
called         a number that is called out of habit
not_copied     a handle that is pickled says what to save
uncompiled     a vote in a compiled training step is run as it is
owners, live   the live modules that parameters belong to
recipe         a checkpoint is that of this run

Of a round, from gradients to bytes and back:

flat_buffer    gradients in and directions out: flat vectors, on the device of the gradients
vectors        flat vectors, and rates of groups
protocol       the three verbs of an algorithm, over all blocks: encode, combine, decode
payloads       payloads of several senders: pick, stack, choose
bodies         ballots of many senders, read in one go
all_groups     payloads, states and contexts of all groups, of which each group's are views
part           blocks that are exchanged together, cut into shards
cuts           the bytes of a shard's rows
placement      who serves which blocks
whole_vectors  blocks joined for rules that need whole vectors
worker_faults  configured faults as one worker meets them

Of workers that come and go (elastic, torchft):

start          where a round of local steps begins, and what stands for a model there

replica        what all members hold alike, and a worker's own memory
shared_state   that as bytes, and its name, without a second copy
ballot         a worker's vote with its learning rates, and as bytes
slot           an attempt at a step
digests        what bytes are called

And: errors that more than one engine raises, notes by step, signals, old_names of what was renamed.
"""
