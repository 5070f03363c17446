"""The definition of every kernel, in plain torch operations; any faster form must return the same bits.

Shapes: M workers, B blocks, n coordinates of one block, W = ⌈n/64⌉ int64 words of packed bits. Coordinate j is bit
j % 64 of word j // 64; bits beyond n are zero. Leading axes are arbitrary.
"""

import torch
from torch import Tensor

from gradvote.kernels.quantiles import quantile
from gradvote.rng import Draw

TILE = 1024
LIMIT = 2.0**64
"""The least magnitude whose square is no float32 number: momenta and memories take in nothing that large."""
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def num_words(n: int) -> int:
    """64-bit words that hold n bits."""
    return -(-n // 64)


def pack_bits(flags: Tensor) -> Tensor:
    """Flags (..., n) bool -> words (..., W)."""
    n = flags.shape[-1]
    padded = torch.nn.functional.pad(flags, (0, 64 * num_words(n) - n))
    lanes = padded.unflatten(-1, (num_words(n), 64)).to(torch.int64)
    words: Tensor = (lanes << torch.arange(64, device=flags.device)).sum(-1)
    return words


def unpack_bits(words: Tensor, n: int) -> Tensor:
    """Words (..., W) -> flags (..., n) bool."""
    lanes = (words[..., None] >> torch.arange(64, device=words.device)) & 1
    return lanes.flatten(-2)[..., :n].bool()


def count_bits(words: Tensor) -> Tensor:
    """Number of set bits (...,) int64 of words (..., W)."""
    return unpack_bits(words, 64 * words.shape[-1]).sum(-1)


def compact(words: Tensor, keep: Tensor, width: int) -> Tensor:
    """The bits of `words` at the set bits of `keep` (..., W), moved together in order, as (..., width) words."""
    n = 64 * words.shape[-1]
    kept, flags = torch.broadcast_tensors(unpack_bits(keep, n), unpack_bits(words, n))
    place = torch.where(kept, kept.cumsum(-1) - 1, 64 * width)
    out = flags.new_zeros(*flags.shape[:-1], 64 * width + 1)
    return pack_bits(out.scatter(-1, place, flags & kept)[..., :-1])


def expand(words: Tensor, keep: Tensor) -> Tensor:
    """The inverse of `compact`: words (..., W) with bits at the set bits of `keep`, zero elsewhere."""
    n = 64 * keep.shape[-1]
    kept = unpack_bits(keep, n)
    flags = torch.nn.functional.pad(unpack_bits(words, 64 * words.shape[-1]), (0, 1))
    place = torch.where(kept, kept.cumsum(-1) - 1, flags.shape[-1] - 1)
    flags = flags.expand(*torch.broadcast_shapes(flags.shape[:-1], place.shape[:-1]), -1)
    return pack_bits(flags.gather(-1, place.expand(*flags.shape[:-1], -1)) & kept)


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10: four 32-bit words (in int64) per counter."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, key >> 32
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = ((p1 >> 32) & _LOW) ^ c1 ^ k0, p1 & _LOW, ((p0 >> 32) & _LOW) ^ c3 ^ k1, p0 & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


def random_words(draw: Draw, count: int) -> Tensor:
    """The first `count` 32-bit words (..., B, count) of each row's stream, in int64."""
    tiles = num_words(count)
    q = torch.arange(16 * tiles, device=draw.block.device)
    block, sender = torch.broadcast_tensors(draw.block[..., None], draw.sender[..., None])
    counter = torch.broadcast_tensors(q, block, sender, torch.zeros_like(q))
    w0, w1, w2, w3 = (w.unflatten(-1, (tiles, 16)) for w in philox(counter, draw.key))
    low, high = torch.stack((w0, w1), -1).flatten(-2), torch.stack((w2, w3), -1).flatten(-2)
    return torch.cat((low, high), -1).flatten(-2)[..., :count]


def random_bits(draw: Draw, n: int) -> Tensor:
    """Fair bits as words (..., B, W): coordinate j is bit j % 32 of 32-bit word j // 32."""
    words = random_words(draw, 2 * num_words(n)).unflatten(-1, (num_words(n), 2))
    return _clear_padding(words[..., 0] | (words[..., 1] << 32), n)


def keep_bits(draw: Draw, n: int, threshold: int | Tensor, granularity: int = 1) -> Tensor:
    """A mask as words (..., B, W): unit g of `granularity` coordinates is kept iff its 16-bit number < threshold.

    Unit g's number is the low (g even) or high (g odd) half of 32-bit word g // 2; threshold = round(65536·keep).
    """
    units = -(-n // granularity)
    words = random_words(draw, -(-units // 2))
    halves = torch.stack((words & 0xFFFF, words >> 16), -1).flatten(-2)[..., :units]
    limit = threshold.to(halves.device, non_blocking=True)[..., None] if isinstance(threshold, Tensor) else threshold
    return pack_bits((halves < limit).repeat_interleave(granularity, -1)[..., :n])


def noise(draw: Draw, n: int, distribution: str) -> Tensor:
    """Symmetric noise (..., B, n) float32 of mean 0 and variance 1: `quantile` of 32-bit word j for coordinate j."""
    return quantile(distribution, random_words(draw, n))


def add_noise(x: Tensor, std: float | Tensor, draw: Draw, distribution: str) -> Tensor:
    """x + b·ξ for x (..., B, n); b is a number or a tensor (..., B). At least float32."""
    return at_least_float32(x) + noise(draw, x.shape[-1], distribution) * _float32(std, x.device)[..., None]


def pack_signs(x: Tensor, zeros: Draw | bool) -> Tensor:
    """Words (..., W), bit = (x > 0); an exact zero takes the draw's fair bit, or the constant given."""
    n = x.shape[-1]
    positive, zero = pack_bits(x > 0), pack_bits(x == 0)
    if isinstance(zeros, bool):
        return positive | zero if zeros else positive
    return positive | (zero & random_bits(zeros, n))


def checked_pack_signs(x: Tensor, zeros: Draw | bool) -> tuple[Tensor, Tensor]:
    """`pack_signs` and `finite` of x."""
    return pack_signs(x, zeros), finite(x)


def noisy_pack_signs(
    x: Tensor, std: float | Tensor, draw: Draw, distribution: str, zeros: Draw | bool
) -> tuple[Tensor, Tensor]:
    """`pack_signs` of `add_noise` and whether each row (...,) of it is finite."""
    noisy = add_noise(x, std, draw, distribution)
    return pack_signs(noisy, zeros), finite(noisy)


def unpack_signs(
    words: Tensor, n: int, scale: float | Tensor = 1.0, out: Tensor | None = None, add: bool = False
) -> Tensor:
    """±scale (..., n) float32 for words (..., W); scale is a number or a tensor (...,).

    `out` receives the result, or with `add` has it added to it, and is returned.
    """
    s = _float32(scale, words.device)[..., None]
    signed = torch.where(unpack_bits(words, n), s, -s)
    if out is None:
        return signed
    return out.add_(signed) if add else out.copy_(signed)


def unpack_kept(words: Tensor, keep: Tensor, n: int, scale: float | Tensor, out: Tensor | None = None) -> Tensor:
    """`unpack_signs` at the set bits of `keep` (..., W), zero elsewhere."""
    kept = torch.where(unpack_bits(keep, n), unpack_signs(words, n, scale), 0.0)
    return kept if out is None else out.copy_(kept)


def mean_signs(words: Tensor, keep: Tensor | None, n: int, scales: Tensor, counts: Tensor) -> Tensor:
    """Σ_i ±s_i / count (..., n) for ballots (M, ..., W), scales (M, ...) and counts (...).

    A ballot adds nothing outside `keep` (M, ..., W). Summed in order of the senders, from zero.
    """
    total = torch.zeros(*words.shape[1:-1], n, device=words.device, dtype=torch.float32)
    for i, own in enumerate(words):
        total = total + (unpack_signs(own, n, scales[i]) if keep is None else unpack_kept(own, keep[i], n, scales[i]))
    return total / counts[..., None]


def majority(words: Tensor, counted: Tensor | None, valid: Tensor, ties: Tensor) -> tuple[Tensor, Tensor]:
    """Vote over ballots (M, ..., W): words (..., W) of the winners, and words that mark the ties.

    `counted` (M, ..., W) marks the coordinates a ballot speaks on (None: all); a ballot whose block is not `valid`
    (M, ...) does not count. A tie takes the bit of `ties` (..., W), also where nobody spoke.
    """
    n = 64 * words.shape[-1]
    spoke = valid[..., None].expand(*valid.shape, n)
    if counted is not None:
        spoke = spoke & unpack_bits(counted, n)
    votes = torch.where(unpack_bits(words, n), 1, -1) * spoke
    total = votes.sum(0)
    tied = pack_bits(total == 0)
    return pack_bits(total > 0) | (tied & ties), tied


def mean(x: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ w_i·x_i / Σ w_i over the valid rows of x (M, ..., n), left fold in order of M; NaN where none is valid."""
    w = valid.to(x.dtype) if weights is None else valid * weights.to(x.dtype).view(-1, *[1] * (valid.dim() - 1))
    total, weight = torch.zeros_like(x[0]), torch.zeros_like(w[0])
    for x_i, w_i, valid_i in zip(x, w, valid, strict=True):
        term = x_i if weights is None else x_i * w_i[..., None]
        total = torch.where(valid_i[..., None], total + term, total)
        weight = weight + w_i
    return total / weight.where(weight > 0, torch.nan)[..., None]


def median(x: Tensor, valid: Tensor) -> Tensor:
    """Coordinate-wise median of the valid rows of x (M, ..., n): (lo + hi) / 2 of the middle two; NaN where none is."""
    return trimmed_mean(x, valid, None)


def trimmed_mean(x: Tensor, valid: Tensor, trim: int | None) -> Tensor:
    """Mean of the valid rows of x (M, ..., n) without the `trim` smallest and largest of each coordinate.

    The rest is summed in ascending order and divided by its count; at least one or two middle values always remain,
    and `trim=None` keeps just those: the median. NaN where no row is valid. A NaN in x counts as +∞, so that
    it meets the same fate as any other outlier.
    """
    ordered = torch.where(valid[..., None] & ~x.isnan(), x, torch.inf).sort(dim=0).values
    count = valid.sum(0)
    middle = (count - 1) // 2
    low = middle if trim is None else middle.clamp(max=trim)
    total = torch.zeros_like(x[0])
    for rank, row in enumerate(ordered):
        inside = (rank >= low) & (rank < count - low)
        total = torch.where(inside[..., None], total + row, total)
    left = (count - 2 * low).clamp(min=1).to(x.dtype)
    return torch.where((count > 0)[..., None], total / left[..., None], torch.nan)


def tree_sum(x: Tensor) -> Tensor:
    """Sum (...,) over the last axis in a fixed order: tiles of 1024 fold in halves, then the tile sums do.

    A fold adds the upper half to the lower half (x_i + x_{i+h}) after padding with zeros to a power of two.
    """
    n = x.shape[-1]
    tiles = torch.nn.functional.pad(x, (0, -n % TILE)).unflatten(-1, (-1, TILE)) if n > TILE else x[..., None, :]
    return _fold(_fold(tiles))


def mean_abs(x: Tensor, keep: Tensor | None = None) -> Tensor:
    """Mean of |x| (...,) over the last axis, or over the coordinates set in `keep` (..., W); 0 where none is."""
    n = x.shape[-1]
    magnitude = at_least_float32(x).abs()
    if keep is None:
        total = tree_sum(magnitude)
        return total / total.new_full((), max(n, 1))  # CUDA devices multiply by the reciprocal of a Python number
    kept = unpack_bits(keep, n)
    return tree_sum(torch.where(kept, magnitude, 0.0)) / kept.sum(-1).clamp(min=1)


def finite(x: Tensor) -> Tensor:
    """Whether every entry of the last axis is finite: (..., n) -> (...,) bool."""
    return torch.isfinite(x).all(-1)


def finite_or(new: Tensor, old: Tensor) -> Tensor:
    """`new`, but `old` in every block (the last axis) of `new` that holds a non-finite value."""
    return torch.where(finite(new)[..., None], new, old)


def moving_average(old: Tensor, beta: float, x: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """β·old + γ·x (..., n) for the `bounded` x; and what to keep of it: `old` in every block where it is not finite.

    Both may be one tensor, and neither has a graph: they are for states, not for autograd.
    """
    new = old.detach() * beta + bounded(x.detach()) * gain
    return new, finite_or(new, old)


def bounded(x: Tensor) -> Tensor:
    """x, at least float32, with an infinity of its sign wherever |x| ≥ `LIMIT`."""
    x = at_least_float32(x)
    return torch.where(x.abs() < LIMIT, x, x * torch.inf)


def at_least_float32(x: Tensor) -> Tensor:
    """bf16 and fp16 widened to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _float32(value: float | Tensor, device: torch.device) -> Tensor:
    """A number or tensor there; a number is written by the device, since a copy of it would wait."""
    if isinstance(value, Tensor):
        return value.to(device, torch.float32, non_blocking=True)
    return torch.full((), value, dtype=torch.float32, device=device)


def _fold(x: Tensor) -> Tensor:
    size = 1 << max(x.shape[-1] - 1, 0).bit_length()
    x = torch.nn.functional.pad(x, (0, size - x.shape[-1]))
    while size > 1:
        size //= 2
        x = x[..., :size] + x[..., size:]
    return x[..., 0]


def _clear_padding(words: Tensor, n: int) -> Tensor:
    if n % 64 and words.shape[-1]:
        words = words.clone()
        words[..., -1] &= (1 << n % 64) - 1
    return words
