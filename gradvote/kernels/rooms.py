"""Which file of a device's kernels holds the fast form of each."""

CPU_ROOMS = {
    "adam_step": "adam",
    "add_noise": "noisy",
    "checked_pack_signs": "signs",
    "compact": "compaction",
    "count_bits": "bits",
    "expand": "compaction",
    "feedback_step": "feedback",
    "finite": "signs",
    "finite_or": "signs",
    "keep_bits": "draws",
    "majority": "vote",
    "mean": "order",
    "mean_abs": "trees",
    "mean_signs": "kept",
    "median": "order",
    "moving_average": "averages",
    "narrow": "rounding",
    "noise": "noisy",
    "noisy_pack_signs": "noisy",
    "outside_units": "units",
    "pack_bits": "bits",
    "pack_signs": "signs",
    "random_bits": "draws",
    "random_words": "draws",
    "still_pack_signs": "signs",
    "tree_sum": "trees",
    "trimmed_mean": "order",
    "unpack_bits": "bits",
    "unpack_kept": "kept",
    "unpack_signs": "bits",
    "whole_units": "units",
    "widen": "rounding",
}
"""The file of `gradvote.kernels.cpu` that holds the fast form of a kernel."""

RAGGED_ROOMS = {
    "ragged_adam_step": "ragged_adam",
    "ragged_average": "ragged_signs",
    "ragged_averaged_signs": "ragged_signs",
    "ragged_compact": "ragged_bits",
    "ragged_copy": "ragged_bytes",
    "ragged_counts": "ragged_bits",
    "ragged_expand": "ragged_bits",
    "ragged_feedback_step": "ragged_feedback",
    "ragged_keep_bits": "ragged_bits",
    "ragged_mean": "ragged_bits",
    "ragged_mean_abs": "ragged_feedback",
    "ragged_narrow": "rounding",
    "ragged_noisy_signs": "ragged_signs",
    "ragged_outside_units": "ragged_bits",
    "ragged_random_bits": "ragged_bits",
    "ragged_signs": "ragged_signs",
    "ragged_unpack": "ragged_bits",
    "ragged_whole_units": "ragged_bits",
}
"""The same for rows of unequal length."""

CUDA_ROOMS = {
    "adam_step": "adam",
    "add_noise": "noisy",
    "checked_pack_signs": "signs",
    "compact": "compaction",
    "count_bits": "bits",
    "expand": "compaction",
    "feedback_step": "feedback",
    "finite": "signs",
    "finite_or": "averages",
    "keep_bits": "draws",
    "majority": "vote",
    "mean": "order",
    "mean_abs": "trees",
    "mean_signs": "kept",
    "median": "order",
    "moving_average": "averages",
    "noise": "noisy",
    "noisy_pack_signs": "noisy_signs",
    "outside_units": "units",
    "pack_bits": "bits",
    "pack_signs": "signs",
    "random_bits": "draws",
    "random_words": "draws",
    "still_pack_signs": "units",
    "tree_sum": "trees",
    "trimmed_mean": "order",
    "unpack_bits": "bits",
    "unpack_kept": "kept",
    "unpack_signs": "bits",
    "whole_units": "units",
}
"""The file of `gradvote.kernels.cuda` that holds it."""

CUDA_RAGGED_ROOMS = {
    name: room
    for name, room in RAGGED_ROOMS.items()
    if name not in ("ragged_mean", "ragged_narrow", "ragged_random_bits")
}
"""The same for rows of unequal length, for what a worker does."""

ROOMS = {"cpu": CPU_ROOMS | RAGGED_ROOMS, "cuda": CUDA_ROOMS | CUDA_RAGGED_ROOMS}
"""The fast forms by the type of device."""
