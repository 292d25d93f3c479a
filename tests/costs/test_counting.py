import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas.core.errors import UserError
from jaxnas.costs.counting import Cost, count_params, mult_adds, network_cost
from jaxnas.layers.convolution import convolution, depthwise
from jaxnas.networks.cell_network import CellNetwork
from jaxnas.spaces.zoo import ZOO

IMAGES = jax.ShapeDtypeStruct((1, 8, 6, 4), jnp.float32)
SQUARE = jax.ShapeDtypeStruct((3, 3), jnp.float32)


@jax.custom_vjp
def squared(x):
    return x @ x


squared.defvjp(lambda x: (x @ x, x), lambda x, g: (g @ x.T + x.T @ g,))


def test_parameters_are_elements():
    tree = {"kernel": jnp.zeros((3, 4, 5)), "rest": [jnp.zeros(()), np.zeros(7), jax.ShapeDtypeStruct((2,), jnp.int32)]}
    assert count_params(tree) == 60 + 1 + 7 + 2


@pytest.mark.parametrize(
    ("kernel", "stride", "outputs"), [((3, 3, 4, 5), 1, 48), ((5, 5, 4, 5), 2, 12), ((1, 1, 4, 5), 2, 12)]
)
def test_dense_convolution(kernel, stride, outputs):
    """Every output pixel and channel takes one multiply-add for each kernel position and input channel."""
    weights = jax.ShapeDtypeStruct(kernel, jnp.float32)
    counted = mult_adds(lambda x, w: convolution(x, w, stride=stride), IMAGES, weights)
    assert counted == outputs * np.prod(kernel)


@pytest.mark.parametrize(("size", "stride", "dilation", "outputs"), [(3, 1, 1, 48), (5, 2, 1, 12), (3, 1, 2, 48)])
def test_depthwise_convolution(size, stride, dilation, outputs):
    weights = jax.ShapeDtypeStruct((size, size, 4), jnp.float32)
    counted = mult_adds(lambda x, w: depthwise(x, w, stride=stride, dilation=dilation), IMAGES, weights)
    assert counted == outputs * size**2 * 4


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda x: x @ x, 1),
        (lambda x: x + x, 0),
        (jax.jit(lambda x: x @ x @ x), 2),
        (squared, 1),
        (jax.checkpoint(squared), 1),
        (jax.vmap(lambda row: row @ jnp.ones((3, 3))), 1),
        (lambda x: lax.scan(lambda y, _: (y @ y, y @ x), x, None, length=5), 10),
        (lambda x: lax.map(lambda row: jnp.outer(row, row) @ x, x), 3),
        (lambda x: lax.cond(x[0, 0] > 0, lambda: x, lambda: x @ x), 1),
        (lambda x: lax.switch(2, [lambda: x, lambda: x @ x @ x, lambda: x @ x]), 2),
        (lambda x: lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y - 1, x @ x), 1),
    ],
)
def test_products_wherever_they_are(function, products):
    assert mult_adds(function, SQUARE) == 27 * products


def test_contractions_over_several_axes_and_batches():
    a, b = jnp.zeros((2, 3, 4, 5)), jnp.zeros((2, 4, 5, 6))
    assert mult_adds(lambda a, b: jnp.einsum("bijk,bjkl->bil", a, b), a, b) == 2 * 3 * 4 * 5 * 6


def test_products_in_a_loop_of_unknown_length():
    with pytest.raises(UserError, match="while loop"):
        mult_adds(lambda x: lax.while_loop(lambda y: y[0, 0] > 0, lambda y: y @ y, x), SQUARE)


def test_an_earlier_trace_does_not_matter():
    def function(images):
        return depthwise(images, jnp.ones((3, 3, 4)))

    jax.jit(function).lower(IMAGES)
    assert mult_adds(function, IMAGES) == 48 * 9 * 4


@pytest.mark.parametrize(
    ("settings", "size", "cost"),
    [
        ({"channels": 36, "layers": 20, "classes": 10}, 32, Cost(3_349_342, 528_359_040)),
        ({"channels": 36, "layers": 20, "classes": 10, "auxiliary": True}, 32, Cost(3_825_768, 528_359_040)),
        ({"channels": 48, "layers": 14, "classes": 1000, "stem": "imagenet"}, 224, Cost(4_718_752, 529_911_552)),
    ],
)
def test_the_published_network(settings, size, cost):
    assert network_cost(CellNetwork(ZOO["DARTS_V2"], **settings), (size, size, 3)) == cost


@pytest.mark.parametrize("shape", [(0, 8, 3), (8, 8, 0)])
def test_images_without_pixels(shape):
    with pytest.raises(UserError, match="have no pixels"):
        network_cost(CellNetwork(ZOO["DARTS_V2"], channels=4, layers=1, classes=2), shape)
