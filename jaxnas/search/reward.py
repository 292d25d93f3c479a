"""What an architecture earns: its accuracy with the shared weights, lowered by what it costs.

A reward needs no derivative of either, so that the accuracy is the one that is counted, and the cost any figure.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxnas.core.types import Architecture, Array, Batch, Gates, Network, Params, Space
from jaxnas.costs.penalties import Penalty
from jaxnas.search.objectives import Mean, accuracy
from jaxnas.spaces.space import encode


class Earned(NamedTuple):
    """What one architecture earned, and what it is made of: scalars. cost: None for a search that counts none."""

    reward: Array
    accuracy: Array
    cost: Array | None = None


# (weights, path, architecture, batch) -> what they earned; see `shared_weights_reward`
Reward = Callable[[Params, Architecture, Architecture, Batch], Earned]


def shared_weights_reward(
    network: Network,
    space: Space,
    *,
    cost: Callable[[Gates], Array] | None = None,
    price: Penalty | None = None,
    mean: Mean = lambda tree: tree,
) -> Reward:
    """The reward price(accuracy of a path, cost of an architecture), both int32 {part: [choices]}.

    network: the supernet, running single paths. The path has an option for every choice; the architecture is what it
    stands for, which is the same where every combination of options is valid. In cells it has fewer edges, and is what
    would be trained in the end, so that it is what costs.
    price: such as `costs.penalties.reward_power`; without it, or without a cost, the reward is the accuracy.
    mean: over devices.
    """

    def earned(params: Params, path: Architecture, architecture: Architecture, batch: Batch) -> Earned:
        logits = network.apply(params, encode(space, path), batch.images, batch.noise)
        right = mean(accuracy(logits, batch.labels))
        if cost is None:
            return Earned(right, right)
        spent = cost(encode(space, architecture))
        return Earned(right if price is None else price(right, spent), right, spent)

    return earned
