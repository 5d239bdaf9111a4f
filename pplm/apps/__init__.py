"""The edges beside the command line: HTML to look at, a web page to play with, a server for other programs."""
