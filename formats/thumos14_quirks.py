"""The known pitfalls of THUMOS'14, in one place. The layout of the same name is in formats/thumos.py."""

VIDEO_PREFIXES = ("video_validation_", "video_test_")

# Of the 213 test videos with marked segments, published work evaluates on 210.
LEFT_OUT = {
    "video_test_0000270": "wrongly annotated",
    "video_test_0001292": "missing from most feature sets",
    "video_test_0001496": "wrongly annotated",
}

# Marks instances that the annotators could not classify. It is not a class, and no evaluation counts it.
AMBIGUOUS = "Ambiguous"

# Every instance of the first is marked a second time as the second.
PARENT_CLASSES = {"CliffDiving": "Diving"}

# Their published annotations continue past the videos' end: 8 instances begin more than half a second after it.
ANNOTATED_PAST_THE_END = frozenset(
    {
        "video_test_0000814",
        "video_test_0001081",
        "video_validation_0000364",
        "video_validation_0000856",
    }
)


def is_ambiguous(video: str, label: str) -> bool:
    return label == AMBIGUOUS and video.startswith(VIDEO_PREFIXES)
