"""The room that tests share when pytest-xdist runs them in several processes."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from beside import room


class Guest:
    """Enters in a thread and stays until it is sent away; the locks are of opened files, so threads will do."""

    def __init__(self, pool, folder, *, alone):
        self.entered, self._leave = Event(), Event()
        self._done = pool.submit(self._visit, folder, alone)

    def _visit(self, folder, alone):
        with room(folder, alone=alone):
            self.entered.set()
            assert self._leave.wait(30)

    def leave(self):
        self._leave.set()
        self._done.result(30)


def test_a_test_that_is_alone_waits_for_the_others_and_none_enters_beside_or_before_it(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        first, second = (Guest(pool, tmp_path, alone=False) for _ in range(2))
        assert first.entered.wait(30)
        assert second.entered.wait(30)  # beside the first
        alone = Guest(pool, tmp_path, alone=True)
        assert not alone.entered.wait(0.2)
        late = Guest(pool, tmp_path, alone=False)
        first.leave()
        assert not alone.entered.wait(0.2)
        second.leave()
        assert alone.entered.wait(30)
        assert not late.entered.wait(0.2)
        alone.leave()
        assert late.entered.wait(30)
        late.leave()
