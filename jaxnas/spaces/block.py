"""Blocks of chains of convolutions, and the names that configs and tables give them: "mbconv_k3_e6"."""

import re
from typing import NamedTuple

from jaxnas.core.errors import UserError, unknown

SQUEEZE = 0.25  # of the block's input channels: the ratio of a plain "se", as MnasNet has it
FORMS = ("mbconv_k3_e6", "mbconv_k5_e1_g2", "mbconv_k3_e3_se", "separable_k3", "separable_k3_se", "identity", "zero")
_CONVOLUTIONAL = re.compile(
    r"(?:mbconv_k(?P<kernel>\d+)_e(?P<expansion>\d+(?:\.\d+)?)(?:_g(?P<groups>\d+))?|separable_k(?P<only_kernel>\d+))"
    r"(?P<se>_se(?P<squeeze>\d*\.\d+)?)?"
)


class Block(NamedTuple):
    """A block of a chain; `str` gives the form that `parse_block` reads.

    kind: "mbconv" (pointwise expansion, depthwise, pointwise; Sandler et al. 2018), "separable" (depthwise, pointwise),
        "identity" (the input itself or, where the shape changes, a 1×1 convolution) or "zero" (no residual branch).
    kernel: size of the depthwise convolution. expansion: hidden channels for each input channel.
    groups: of both pointwise convolutions. squeeze: channels of a squeeze-and-excitation for each input channel of the
        block, 0 for none.
    """

    kind: str
    kernel: int = 1
    expansion: float = 1
    groups: int = 1
    squeeze: float = 0.0

    def __str__(self) -> str:
        """Such as "mbconv_k3_e6", "mbconv_k5_e1_g2" or "separable_k3_se"."""
        if self.kind in ("identity", "zero"):
            return self.kind
        expansion = f"_e{self.expansion:g}" if self.kind == "mbconv" else ""
        groups = f"_g{self.groups}" if self.groups > 1 else ""
        ratio = "" if self.squeeze == SQUEEZE else f"{self.squeeze:g}"
        return f"{self.kind}_k{self.kernel}{expansion}{groups}{f'_se{ratio}' if self.squeeze else ''}"

    def hidden(self, channels_in: int) -> int:
        """Channels of the depthwise convolution in a layer that reads channels_in: whole, at least 1."""
        return max(1, round(channels_in * self.expansion))

    def squeezed(self, channels_in: int) -> int:
        """Channels between the two linear layers of the squeeze-and-excitation: whole, at least 1."""
        return max(1, round(channels_in * self.squeeze))


def parse_block(text: str) -> Block:
    """The block that a text such as "mbconv_k3_e6" names; raises UserError for anything else, with a form near it."""
    if text in ("identity", "zero"):
        return Block(text)
    match = _CONVOLUTIONAL.fullmatch(text) if isinstance(text, str) else None  # a config may hold anything
    if match is None:
        raise unknown("block", text, FORMS)
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
            f"the block {text!r} has a kernel of size {block.kernel}, but sizes are odd: take {FORMS[0]!r}."
        )
    for name, value in (("expansion", block.expansion), ("groups", block.groups)):
        if value <= 0:
            raise UserError(f"the block {text!r} has {name} 0, which has to be above 0, as in {FORMS[1]!r}.")
    if match["se"] and not 0 < block.squeeze <= 1:
        raise UserError(f"the block {text!r} has squeeze ratio {block.squeeze:g}, which has to be in (0, 1].")
    return block
