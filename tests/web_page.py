"""A visitor's hands and eyes on the web page, in a real browser."""

from urllib.parse import urlencode

SECONDS = 120
"""In which anything happens, also on a machine that does much else."""
REFUSED = "status of 400"
"""What the browser's console says of a request that is answered by 400."""
NASTY = "</script><img src=x onerror=alert(1)> \"quoted\" 'single' $(id) ${alert(2)} {{7*7}} {alert(3)}"


def arriving(visitor, address):
    """Return a function that opens the page as a new visitor; it returns Playwright's page, ready to be used."""

    def open_page(query="", *, complains="", **options):
        one = visitor(**options)
        one.forgiven = complains
        page = one.open(f"{address}/{query}")
        page.set_default_timeout(SECONDS * 1000)
        page.wait_for_selector("#generate")
        return page

    return open_page


def link(**settings):
    return "?" + urlencode(settings, doseq=True)


def choose(page, *, prompt, topics=(), length=None):
    page.get_by_label("Prompt").fill(prompt)
    for topic in topics:
        page.locator("#bags").get_by_label(topic, exact=True).check()
    if length is not None:
        slider = page.get_by_label("range slider for Length")
        # On a busy machine it may be drawn before it listens: then type once more, as a visitor would.
        for _ in range(SECONDS):
            number(page, "Length").fill(str(length))
            number(page, "Length").blur()
            page.wait_for_timeout(200)
            if slider.input_value() == str(length):
                break
            page.wait_for_timeout(800)
        assert slider.input_value() == str(length)


def number(page, label):
    """Return the number beside a slider."""
    opened = page.get_by_text("Samples, length, seed")
    if not page.get_by_role("spinbutton", name="Seed").is_visible():
        opened.click()
    return page.get_by_label(f"number input for {label}")


def generate(page):
    """Press Generate, and wait until the texts are all there."""
    page.evaluate("document.querySelector('#result [data-ended]')?.removeAttribute('data-ended')")
    page.click("#generate")
    finished(page)


def finished(page):
    page.locator("#status", has_text="Done.").wait_for()
    page.wait_for_selector("#result [data-ended='done']")


def texts(page):
    """Return the (heading, text) of each column."""
    columns = page.locator("#result .column")
    return [(one.locator("h3").inner_text(), one.locator(".text").text_content()) for one in columns.all()]
