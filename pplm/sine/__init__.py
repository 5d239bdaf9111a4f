"""The sine wave: the core's other caller, a network that draws, steered while it draws."""

from pplm.sine.amplitude import AmplitudeControl
from pplm.sine.attributes import Oscillator, Reference, Swing, WaveAttribute
from pplm.sine.network import WaveNetworks, sine_wave, train
from pplm.sine.wave import DrawnWaves, SineConfig, SteeringProtocol, draw

__all__ = [
    "AmplitudeControl",
    "DrawnWaves",
    "Oscillator",
    "Reference",
    "SineConfig",
    "SteeringProtocol",
    "Swing",
    "WaveAttribute",
    "WaveNetworks",
    "draw",
    "sine_wave",
    "train",
]
