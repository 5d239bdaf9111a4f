"""What steering costs: steered beside unsteered runs of the same batch, in seconds, passes and memory.

The caller passes the attribute models.
"""

from pplm.benchmark.agreement import Agreement, Deviation, dtype_agreement
from pplm.benchmark.config import BenchmarkConfig, Case
from pplm.benchmark.machine import describe_machine
from pplm.benchmark.memory import peak_memory_mb
from pplm.benchmark.random_models import RANDOM_MODELS, random_model
from pplm.benchmark.rows import BenchmarkRow
from pplm.benchmark.run import in_dtype, run_benchmark, steering_settings
from pplm.passes import Passes, count_passes

__all__ = [
    "RANDOM_MODELS",
    "Agreement",
    "BenchmarkConfig",
    "BenchmarkRow",
    "Case",
    "Deviation",
    "Passes",
    "count_passes",
    "describe_machine",
    "dtype_agreement",
    "in_dtype",
    "peak_memory_mb",
    "random_model",
    "run_benchmark",
    "steering_settings",
]
