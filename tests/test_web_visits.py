"""Visitors of the web page: one text each, bounded memory for all of them, and nothing for those who have left."""

import time
from importlib.util import find_spec
from types import SimpleNamespace

from browser import require

from pplm.apps.web.running import Reins
from pplm.apps.web.visits import Visits


def test_visitors_that_nobody_has_seen_take_bounded_memory_and_end_no_text(monkeypatch):
    monkeypatch.setattr("pplm.apps.web.visits.MOST", 3)
    visits = Visits(60)
    writing = visits.begin("writing")
    writing.start()
    waiting = visits.begin("waiting")
    for number in range(50):
        visits.begin(f"made up {number}")
    assert visits.find("writing") is writing
    assert writing.why == ""
    assert visits.find("waiting") is not waiting
    assert sum(visits.find(f"made up {number}") is not None for number in range(50)) == 2


def test_two_requests_of_one_visitor_end_the_first():
    visits = Visits(60)
    first = visits.begin("a")
    other = visits.begin("b")
    second = visits.begin("a")
    assert (first.why, other.why, second.why) == ("stopped", "", "")
    visits.end("a", first)
    assert visits.find("a") is second
    assert visits.leave("a")
    assert second.why == "stopped"
    assert not visits.leave("a")
    assert other.why == ""


def test_the_page_writes_for_nobody_who_has_left(served):
    require(find_spec("gradio"), "the package gradio (the extra `web`)")
    from pplm.apps.web.handlers import Page, Shown

    page = Page(served, Visits(60), None)
    assert list(page.write(SimpleNamespace(session_hash="gone"))) == [Shown()]


def test_times_are_measured_from_the_start():
    reins = Reins(0.05)
    assert reins.why == ""
    reins.start()
    time.sleep(0.06)
    assert reins.why == "time"
