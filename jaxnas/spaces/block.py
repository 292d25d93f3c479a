"""Blocks of chains of convolutions, and the names that configs and tables give them: "mbconv_k3_e6"."""

import re
from collections.abc import Callable
from typing import NamedTuple

from jaxnas.core.errors import UserError, unknown
from jaxnas.relax.quantized import UNQUANTIZED

SQUEEZE = 0.25  # of the block's input channels: the ratio of a plain "se", as MnasNet has it
FORMS = (
    *("mbconv_k3_e6", "mbconv_k5_e1_g2", "mbconv_k3_e3_se", "separable_k3", "separable_k3_se"),
    *("residual", "residual_w2_a4", "identity", "zero"),
)
MOST_BITS = 8  # of a quantised block
_BARE = re.compile("identity|zero")
_RESIDUAL = re.compile(r"residual(?:_w(?P<weights>\d+)_a(?P<activations>\d+))?")
_DEPTHWISE = re.compile(
    r"(?:mbconv_k(?P<kernel>\d+)_e(?P<expansion>\d+(?:\.\d+)?)(?:_g(?P<groups>\d+))?|separable_k(?P<only_kernel>\d+))"
    r"(?P<se>_se(?P<squeeze>\d*\.\d+)?)?"
)


class Block(NamedTuple):
    """A block of a chain; `str` gives the form that `parse_block` reads.

    kind: "mbconv" (pointwise expansion, depthwise, pointwise; Sandler et al. 2018), "separable" (depthwise, pointwise),
        "residual" (two dense 3×3 convolutions; He et al. 2016), "identity" (the input itself or, where the shape
        changes, a 1×1 convolution) or "zero" (no residual branch).
    kernel: size of the depthwise, or of both dense convolutions. expansion: hidden channels for each input channel.
    groups: of both pointwise convolutions. squeeze: channels of a squeeze-and-excitation for each input channel of the
        block, 0 for none.
    bits: of the weights and of the activations that every convolution of the block multiplies, 32 where they are not
        quantised.
    """

    kind: str
    kernel: int = 1
    expansion: float = 1
    groups: int = 1
    squeeze: float = 0.0
    bits: tuple[int, int] = UNQUANTIZED

    def __str__(self) -> str:
        """Such as "mbconv_k3_e6", "mbconv_k5_e1_g2", "separable_k3_se" or "residual_w2_a4"."""
        if self.kind in ("identity", "zero"):
            return self.kind
        if self.kind == "residual":
            return f"residual_w{self.bits[0]}_a{self.bits[1]}" if self.quantized else "residual"
        expansion = f"_e{self.expansion:g}" if self.kind == "mbconv" else ""
        groups = f"_g{self.groups}" if self.groups > 1 else ""
        ratio = "" if self.squeeze == SQUEEZE else f"{self.squeeze:g}"
        return f"{self.kind}_k{self.kernel}{expansion}{groups}{f'_se{ratio}' if self.squeeze else ''}"

    @property
    def quantized(self) -> bool:
        """Whether the block computes in fewer bits than the network around it."""
        return self.bits != UNQUANTIZED

    def hidden(self, channels_in: int) -> int:
        """Channels of the depthwise convolution in a layer that reads channels_in: whole, at least 1."""
        return max(1, round(channels_in * self.expansion))

    def squeezed(self, channels_in: int) -> int:
        """Channels between the two linear layers of the squeeze-and-excitation: whole, at least 1."""
        return max(1, round(channels_in * self.squeeze))


def parse_block(text: str) -> Block:
    """The block that a text such as "mbconv_k3_e6" names; raises UserError for anything else, with a form near it."""
    for pattern, read in _READERS.items():
        match = pattern.fullmatch(text) if isinstance(text, str) else None  # a config may hold anything
        if match:
            return read(match)
    raise unknown("block", text, FORMS)


def _bare(match: re.Match[str]) -> Block:
    return Block(match[0])


def _residual(match: re.Match[str]) -> Block:
    if match["weights"] is None:
        return Block("residual", kernel=3)
    bits = int(match["weights"]), int(match["activations"])
    for name, value in zip(("weights", "activations"), bits, strict=True):
        if not 1 <= value <= MOST_BITS:
            raise UserError(
                f"the block {match[0]!r} has {name} of {value} bits, which have to be 1 to {MOST_BITS}; 'residual' is "
                "the same in full precision."
            )
    return Block("residual", kernel=3, bits=bits)


def _depthwise(match: re.Match[str]) -> Block:
    expansion = float(match["expansion"] or 1)
    block = Block(
        "mbconv" if match["expansion"] else "separable",
        kernel=int(match["kernel"] or match["only_kernel"]),
        expansion=int(expansion) if expansion.is_integer() else expansion,
        groups=int(match["groups"] or 1),
        squeeze=float(match["squeeze"] or SQUEEZE) if match["se"] else 0.0,
    )
    if block.kernel % 2 == 0:
        raise UserError(
            f"the block {match[0]!r} has a kernel of size {block.kernel}, but sizes are odd: take {FORMS[0]!r}."
        )
    for name, value in (("expansion", block.expansion), ("groups", block.groups)):
        if value <= 0:
            raise UserError(f"the block {match[0]!r} has {name} 0, which has to be above 0, as in {FORMS[1]!r}.")
    if match["se"] and not 0 < block.squeeze <= 1:
        raise UserError(f"the block {match[0]!r} has squeeze ratio {block.squeeze:g}, which has to be in (0, 1].")
    return block


_READERS: dict[re.Pattern[str], Callable[[re.Match[str]], Block]] = {
    _BARE: _bare,
    _RESIDUAL: _residual,
    _DEPTHWISE: _depthwise,
}
