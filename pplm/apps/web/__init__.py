"""The web page of `pplm web`: write, steer and look, in a browser."""
