"""jaxnas: architecture search and training through discrete choices, in JAX.

Import the parts you need (`from jaxnas.relax import categorical`); this package imports nothing heavy by itself.
"""

__version__ = "0.1.0"
