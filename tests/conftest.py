"""Eight fake CPU devices for the sharding tests; set before anything else touches JAX."""

import chex

chex.set_n_cpu_devices(8)
