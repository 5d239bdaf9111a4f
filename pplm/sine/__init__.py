"""The sine wave: the core's other caller, a network that draws, steered while it draws."""

from pplm.sine.network import WaveNetworks, sine_wave, train
from pplm.sine.wave import DrawnWaves, Oscillator, Reference, SineConfig, SteeringProtocol, WaveAttribute, draw

__all__ = [
    "DrawnWaves",
    "Oscillator",
    "Reference",
    "SineConfig",
    "SteeringProtocol",
    "WaveAttribute",
    "WaveNetworks",
    "draw",
    "sine_wave",
    "train",
]
