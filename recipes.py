"""The published numbers of each --dataset, and what each --recipe changes of them: plain tables, edited here.

    PRESETS["demo"]["lr"], RECIPES["stable"]["pseudo_source"]

Values that depend on the data, as T does, are in data_tools/recipe.py.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

# Values that differ from the defaults, by --dataset. Flags override them.
_ACTIVITYNET: Mapping[str, Any] = MappingProxyType(
    {
        "num_segments": 50,
        "short_videos": "keep",
        "kernel_size": 7,
        "rgb_fusion": 0.3,
        "w_bg": 1.0,
        "w_mutual": 20.0,
        "mil_ratio": 0.25,
        "mil_rank": "cas",
        "pseudo_ratio": 0.8,
        "pseudo_extra": 0,
        "confidence_ratio": 0.0,
        "mask_momentum": 0.99,
        "mask_var_factor": 6.0,
        "fuse_cas": 0.6,
        "fuse_rgb": 0.2,
        "fuse_flow": 0.2,
        "batch_size": 32,
        "drop_last": True,
        "num_epochs": None,
        "num_iters": 50_000,
        "seed": 0,
        "class_th": 0.1,
        "beta": 0.5,
        "nms_thresh": 0.7,
        "nms_alpha": 0.35,
        "detection_inf_step": 200,
        "eval_from_epoch": 1,
        "test_batch_size": 32,
        "tious": "0.5:0.95:0.05",
        "average_tious": ("0.5:0.95",),
        "save_epochs": 5,
    }
)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "thumos14": MappingProxyType({}),
        "activitynet1.2": _ACTIVITYNET,  # 100 of the classes
        "activitynet1.3": _ACTIVITYNET,
        "demo": MappingProxyType(
            {
                "data_path": "data/demo",
                "num_segments": 100,
                "lr": 6e-4,
                "num_epochs": 8,
                "detection_inf_step": 30,
            }
        ),
    }
)

PUBLISHED, STABLE, AUTO = "published", "stable", "auto"

# Flags whose values the stable recipe takes from the data.
FROM_DATA = frozenset({"num_segments", "hidden_size", "lr", "num_epochs", "detection_inf_step", "class_th"})

# Values that a recipe sets, by --recipe, on top of the preset. Saved options and flags override them. "auto" is one of these.
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        PUBLISHED: MappingProxyType({}),
        STABLE: MappingProxyType(
            {
                "pseudo_source": "classes",
                "pseudo_band": 0.0,
                "no_mask": True,
                "no_mixup": True,
                "no_propagation": True,
                "mil_rank": "cas",
                "mil_competition": 0.5,
                "w_bg": 1.0,
                "w_so": 1.0,
                "w_self": 1.0,
                "fuse_cas": 0.6,
                "fuse_rgb": 0.2,
                "fuse_flow": 0.2,
                "lr_schedule": "cosine",
                "short_videos": "stretch",
            }
        ),
    }
)
