"""Links from a report's numbers to its explorer of videos.

explore_link(**{"class": 5, "sort": "ap"})      # "#explore?class=5&sort=ap": the videos of class 5, the worst first
explore_link(video=3, run=1)                    # video 3 of the second run
"""

from urllib.parse import urlencode

SORTS = ("name", "ap", "-ap", "fp")  # by name; worst AP first; best AP first; most false positives first
# Positions, but for `sort`, the key of a group (report/groups.py), and the numbers.
KEYS = ("video", "class", "kind", "sort", "group", "run", "threshold", "from", "to")


def explore_link(**keys: object) -> str:
    """The hash of a state of the explorer. Raises ValueError for a key or an order that it does not know."""
    unknown = keys.keys() - set(KEYS)
    if unknown or keys.get("sort", "name") not in SORTS:
        raise ValueError(f"no link with {sorted(unknown) or keys['sort']}")
    return f"#explore?{urlencode(keys)}" if keys else "#explore"
