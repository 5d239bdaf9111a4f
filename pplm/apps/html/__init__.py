"""A trace as HTML: one file to keep and send, or a fragment inside another page or a notebook."""

from pplm.apps.html.page import text_fragment, trace_fragment, trace_page

__all__ = ["text_fragment", "trace_fragment", "trace_page"]
