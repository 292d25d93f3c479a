"""The stand-alone network of a chain of blocks: stem, the chosen block of every layer, head, classifier."""

import jax.numpy as jnp
from flax import linen as nn

from jaxnas.core.errors import UserError
from jaxnas.core.types import Array
from jaxnas.networks.cell_network import Rate
from jaxnas.networks.cell_operations import Linear
from jaxnas.networks.chain_operations import MBConv, NormalizedConvolution, Residual, block_module
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import Chain, is_allowed


class ChainNetwork(nn.Module):
    """A chain with one concrete block in every layer, as MobileNetV2 is built (Sandler et al. 2018).

    blocks: one for each of plan.layers (see `spaces.chain.chosen_blocks`). classes: number of logits.
    axis_name: the device axis over which batch statistics are shared, None to keep them per device.
    Raises UserError for another number of blocks, "zero" where the shape changes, and fewer than one class.
    """

    plan: Chain
    blocks: tuple[Block, ...]
    classes: int
    axis_name: str | None = None

    def __post_init__(self) -> None:
        layers = self.plan.layers
        if len(self.blocks) != len(layers):
            raise UserError(f"this chain has {len(layers)} layers, which {len(self.blocks)} blocks do not fill.")
        for layer, block in zip(layers, self.blocks, strict=True):
            if not is_allowed(block, layer):
                raise UserError(f"{layer.name} changes the shape of its input, which {str(block)!r} cannot.")
        if self.classes < 1:
            raise UserError(f"a network needs at least 1 of classes, not {self.classes}.")
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, *, train: bool, drop_path_rate: Rate = 0.0) -> tuple[Array, None]:
        """Images [b, h, w, c] of any size -> (logits [b, classes], None): there is no auxiliary head.

        In training the collection `batch_stats` is updated, and a drop_path_rate other than the number 0 drops residual
        branches with the stream "drop_path" (stochastic depth, Huang et al. 2016; one rate for all layers).
        """
        plan = self.plan
        stem = NormalizedConvolution(plan.stem, 3, plan.stem_stride, plan.activation, self.axis_name, name="stem")
        hidden = stem(images, train)
        for number, (layer, block) in enumerate(zip(plan.layers, self.blocks, strict=True)):
            module = block_module(plan, layer, block, self.axis_name, name=f"layer_{number}_{block.kind}")
            rate = (drop_path_rate,) if isinstance(module, MBConv | Residual) else ()
            hidden = module(hidden, train, *rate)
        head = NormalizedConvolution(plan.head, 1, 1, plan.activation, self.axis_name, name="head")
        return Linear(self.classes, name="classifier")(jnp.mean(head(hidden, train), axis=(1, 2))), None
