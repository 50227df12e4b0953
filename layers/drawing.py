"""A large linear layer drawn by all threads: with the numbers, and the generator's state, that one thread would leave.

    layer = kaiming_normal_linear(WideLinear, H * H, H)      # as WideLinear(H * H, H), nn.init.kaiming_normal_, zeros_

Torch draws number after number from a Mersenne Twister (MT19937), a word for each float32. Its step is linear over GF(2), so
that the state J words on is a polynomial of the step, x^J modulo its characteristic polynomial, applied to the state (Haramoto
et al., "Efficient Jump Ahead for F2-Linear Random Number Generators", 2008): threads begin where they like, and numbers that
nobody will see are skipped. Polynomials over GF(2) are integers here, whose bits are the coefficients.
"""

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WORDS, MIDDLE, LOW_BITS, TWIST = 624, 397, 31, 0x9908B0DF  # n, m, r and a of MT19937 (Matsumoto and Nishimura, 1998)
DEGREE = 32 * WORDS - LOW_BITS
TOGETHER = 16  # numbers that torch makes of as many words at a time: so many begin at a multiple of it
FEW = 2**22  # numbers that are sooner drawn than skipped
MOST_THREADS = 8  # more would wait for the memory

# In the bytes of torch.Generator.get_state(): the words left in the state plus 1, the place of the next word, the words.
STATE_BYTES = 5056  # of them all; of another number they mean something else
_LEFT, _NEXT, _WORDS = slice(8, 12), slice(16, 24), slice(24, 24 + 8 * WORDS)

Layer = TypeVar("Layer", bound=nn.Linear)


def kaiming_normal_linear(kind: type[Layer], width: int, channels: int) -> Layer:
    """A layer from `width` to `channels`, with weights for a ReLU (He et al., 2015), normally distributed, and zero biases.

    The generator is used as if the layer had first drawn weights and biases of its own, which nobody sees.
    """
    count, usual = width * channels, torch.empty(0)
    known = torch.get_rng_state().numel() == STATE_BYTES
    drawn_here = known and usual.device.type == "cpu" and usual.dtype == torch.float32
    if not drawn_here or count < FEW or count % TOGETHER:
        layer = kind(width, channels)
        if not layer.weight.is_meta:  # there it is about to be loaded; drawing unused numbers would take a second
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layer
    layer = kind(width, channels, device="meta")
    layer.weight, layer.bias = nn.Parameter(torch.empty(channels, width)), nn.Parameter(torch.zeros(channels))
    skip_draws(count + channels, torch.default_generator)
    normal_(layer.weight, std=nn.init.calculate_gain("leaky_relu", 0) / math.sqrt(width))
    return layer


def normal_(weight: Tensor, *, std: float) -> None:
    """weight.normal_(0, std), by as many threads as torch has: a contiguous float32 tensor with 16 n elements."""
    values, generator = weight.detach().view(-1), torch.default_generator
    threads = min(torch.get_num_threads(), MOST_THREADS)
    # Whole states, so that every thread is as many of them further on.
    part = -(-len(values) // (threads * WORDS)) * WORDS
    generators = []
    for _ in range(0, len(values), part):
        generators.append(torch.Generator().set_state(generator.get_state()))
        skip_draws(part, generator)
    inference = torch.is_inference_mode_enabled()  # which a thread does not take over

    def draw(values: Tensor, own: torch.Generator) -> None:
        with torch.inference_mode(inference):
            values.normal_(0, std, generator=own)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, values.split(part), generators))
    generator.set_state(generators[-1].get_state())


def skip_draws(count: int, generator: torch.Generator) -> None:
    """Leave a generator of the CPU as if `count` float32 numbers had been drawn from it."""
    state = generator.get_state()
    content = state.numpy()
    used = WORDS + 1 - int(content[_LEFT].view(np.uint32)[0])  # of the words in the state; all of a fresh one
    states, used = divmod(used + count - 1, WORDS)
    words = content[_WORDS].view(np.uint64).astype(np.uint32)
    content[_WORDS].view(np.uint64)[:] = _advanced(words, states)
    content[_LEFT].view(np.uint32)[:] = WORDS - used
    content[_NEXT].view(np.uint64)[:] = used + 1
    generator.set_state(state)


def _advanced(words: NDArray[np.uint32], states: int) -> NDArray[np.uint32]:
    """The words [624] of the twister's state, so many states on."""
    if states == 0:
        return words
    # A seed's first word is not one that the twister makes: the state after it is where the algebra begins.
    powers = _power(WORDS * (states - 1))
    following = _following(words, DEGREE // WORDS + 2)
    jumped = np.zeros(WORDS, np.uint32)
    for power in powers:
        jumped ^= following[power : power + WORDS]
    return jumped


def _following(words: NDArray[np.uint32], states: int) -> NDArray[np.uint32]:
    """The words of the next states, one after another."""
    twister = np.random.MT19937()
    state = twister.state
    state["state"] = {"key": words, "pos": WORDS}
    twister.state = state
    made = []
    for _ in range(states):
        twister.random_raw(WORDS, output=False)
        made.append(twister.state["state"]["key"].copy())
    return np.concatenate(made)


@functools.lru_cache(maxsize=4)
def _power(exponent: int) -> list[int]:
    """The exponents of x in x^exponent modulo the characteristic polynomial."""
    polynomial = 1
    for bit in f"{exponent:b}":
        polynomial = int(f"{polynomial:b}", 4) << int(bit)  # its square: a zero between two coefficients
        while polynomial.bit_length() > DEGREE:
            high = polynomial >> DEGREE
            polynomial ^= high << DEGREE
            for power in _characteristic():
                polynomial ^= high << power
    return _exponents(polynomial)


@functools.cache
def _characteristic() -> list[int]:
    """The exponents in MT19937's characteristic polynomial without the highest (its authors' paper, appendix A)."""

    def times(polynomial: int, power: int, other: int) -> int:
        return polynomial << power ^ polynomial << other

    products = [times(1, WORDS, MIDDLE)]
    for _ in range(LOW_BITS):
        products.append(times(products[-1], WORDS - 1, MIDDLE - 1))
    terms = [products[LOW_BITS - 1 - i] for i in range(LOW_BITS)] + [1]
    polynomial = products[LOW_BITS]
    for i, term in enumerate(terms):
        polynomial ^= term * (TWIST >> i & 1)
    return _exponents(polynomial)[:-1]


def _exponents(polynomial: int) -> list[int]:
    return [i for i, bit in enumerate(reversed(f"{polynomial:b}")) if bit == "1"]
