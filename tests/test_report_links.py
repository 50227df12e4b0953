"""Links into the explorer."""

import pytest

from report.links import explore_link


def test_links_are_hashes_that_the_page_reads():
    assert explore_link() == "#explore"
    assert explore_link(**{"class": 5, "sort": "-ap"}) == "#explore?class=5&sort=-ap"


@pytest.mark.parametrize("keys", [{"vidoe": 1}, {"sort": "size"}])
def test_others_are_refused(keys):
    with pytest.raises(ValueError, match="no link with"):
        explore_link(**keys)
