#!/usr/bin/env bash
# One call on each of two (or more) hosts: HOSTS=2 MASTER=10.0.0.1 INTERFACE=eth0 torchrun-two-hosts.sh train.py ...
# Every host may call it at any time within the join timeout; MASTER is one of them, and its PORT is open to the others.
set -euo pipefail

: "${MASTER:?the address of one of the hosts, as the others reach it}"
export GLOO_SOCKET_IFNAME=${INTERFACE:?the network interface that carries ballots, for instance eth0}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# The address of this host on that interface: torchrun would tell the others its name, which they may not resolve.
own=$(ip -4 -brief address show dev "$INTERFACE" | awk '{ split($3, part, "/"); print part[1] }')
# Who serves the store is said outright: torchrun would look whether its host's name resolves to MASTER.
host=$([[ $own == "$MASTER" ]] && echo true || echo false)

exec "${PYTHON:-python}" -m torch.distributed.run --nnodes "${HOSTS:-2}" --nproc-per-node "${PER_HOST:-1}" \
    --rdzv-backend c10d --rdzv-endpoint "$MASTER:${PORT:-29500}" --rdzv-id "${RUN_ID:-gradvote}" \
    --rdzv-conf "is_host=$host" --local-addr "$own" "$@"
