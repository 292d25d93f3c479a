"""What the choices of a chain cost: the blocks of its stand-alone network, each as a piece that stands by itself."""

import numpy as np

from jaxnas.networks.chain_operations import block_module, is_free
from jaxnas.networks.family import Component, Images, Term
from jaxnas.spaces.block import Block
from jaxnas.spaces.chain import PART, Chain, Layer, allowed_blocks, choice_layers, input_sizes


def chain_terms(plan: Chain, images: Images, *, shared: bool = False) -> list[Term]:
    """One term for every choice: the pieces of each candidate in all layers that the choice decides, () where none."""
    sizes = input_sizes(plan, images.height, images.width)
    terms = []
    for row, (numbers, allowed) in enumerate(
        zip(choice_layers(plan, shared), allowed_blocks(plan, shared), strict=True)
    ):
        pieces = np.empty(len(plan.candidates), object)
        for option, block in enumerate(plan.candidates):
            found = (block_components(plan, plan.layers[number], block, sizes[number]) for number in numbers)
            pieces[option] = sum(found, ()) if allowed[option] else ()
        terms.append(Term(((PART, row),), pieces))
    return terms


def block_components(plan: Chain, layer: Layer, block: Block, size: tuple[int, int]) -> tuple[Component, ...]:
    """What a block costs in a layer that reads images of `size` (height, width): one piece, or () where it is free.

    Named "block, channels x height x width of the input, output channels, stride": "mbconv_k3_e6 24x56x56 c40 s2".
    """
    if is_free(layer, block):
        return ()
    height, width = size
    name = f"{block} {layer.channels_in}x{height}x{width} c{layer.channels} s{layer.stride}"
    return (Component(name, block_module(plan, layer, block), (height, width, layer.channels_in), block.bits),)
