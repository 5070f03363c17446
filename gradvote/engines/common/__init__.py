"""What engines share. No engine imports another one: what two of them need is here.

What every engine for real workers does alike, so that a user's habit has one outcome everywhere:

`training`         all of the following together: the user's side of an engine
`arguments`        an algorithm, optimizers, seeds, times and the like were given, and not something else
`parameters`       which tensors are trained; what cannot be exchanged is refused
`owners`           the live modules that parameters belong to
`terms`            what all workers must be given alike, and how an error names what is not
`recipe`           a checkpoint is that of this run
`releases`         what a worker lets others see of its updates, under an account
`optimizers`       learning rates of one optimizer or several
`trained`          nothing was unfrozen or added after the start, and no module
`misfits`          optimizers and layers that a vote would ruin in silence
`directions`       a gradient is never accumulated onto a direction; no decision is no gradient
`nodes`            where autograd tells that it accumulates
`kept`             a direction that is set aside
`in_vain`          directions that nobody applied, and steps in which nobody votes
`scaling`          loss scaling: gradients in true units, all ranks step or none
`clipping`         a worker's own gradient is bounded before the vote
`step_watch`       what the optimizer gets is what the vote gave, and it steps once
`torch_modes`      a vote stays what it is in inference mode, and in a compiled training step
`handles`          one line of each handle; one that is pickled, or a number that is called, says what to do instead

Of a round, from gradients to bytes and back:

`flat_buffer`      gradients in and directions out: flat vectors, on the device of the gradients
`protocol`         the three verbs of an algorithm, over all blocks: encode, combine, decode
`all_groups`       payloads, states and contexts of all groups, of which each group's are views
`payloads`         payloads of several senders: pick, stack, choose
`part`             blocks that are exchanged together, cut into shards
`cuts`             the bytes of a shard's rows
`placement`        who serves which blocks
`whole_vectors`    blocks joined for rules that need whole vectors
`worker_faults`    configured faults as one worker meets them
`fellows`          ballots of who contradicts its fellows are not counted

Of local steps:

`start`            where a round begins, what stands for a model there, and what all agreed on
`ways`             how far a worker's own steps led
`own_parameters`   a worker's own parameters, and copies that optimizers keep of them, as rounds move them
`beside`           buffers and frozen parameters, which stay each worker's own
`outside_changes`  nothing but its optimizer has changed the model

Of workers that come and go (elastic, torchft):

`replica`          what all members hold alike, and a worker's own memory
`shared_state`     that as bytes, and its name, without a second copy
`ballot`           a worker's vote with its learning rates, and as bytes
`parameter_check`  parameters that drift apart unseen are found
`slot`             an attempt at a step
`digests`          what bytes are called

And: `errors` that more than one engine raises, `notes` by step, `signals`.
"""
