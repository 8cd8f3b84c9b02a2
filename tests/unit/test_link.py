"""The way to a simulated board."""

import time

from tamale_sim.link import ProcessLink


def test_last_words_of_a_process_that_has_ended():
    """A board may halt before it is closed; what it says then is read all the same."""
    link = ProcessLink(["sh", "-c", """echo '{"reason": "halted"}' >&2"""], 1_000_000, 10_000)
    while link.alive:
        time.sleep(0.01)
    link.close()
    assert link.summary == {"reason": "halted"}
    link.close()
