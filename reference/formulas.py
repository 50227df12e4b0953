"""A complete training step and the way from a test video to mAP, in plain torch, where loops would take hours.

    out = network(params, features)                     # params: a dict of tensors by their published names
    total, terms = training_loss(out, labels, mask_state)
    detections = localize_video(sequence, class_scores(...), num_snippets)

Nothing is written for speed. Numbers are those of the THUMOS'14 recipe.
"""

# mypy: allow-untyped-defs
# (the plain formulation reads better bare)

import math

import torch
import torch.nn.functional as F

from reference import loops

LOSS_WEIGHTS = {"mil": 1.0, "bg": 10.0, "act": 1.0, "mix": 1.0, "mutual": 5.0, "so": 3.0}
THRESHOLDS = [round(0.1 * i, 1) for i in range(1, 10)]


def convolution(params, name, x):
    """x [B,D,T] -> [B,H,T], padded to the same T"""
    weight = params[f"{name}.weight"]
    return F.conv1d(x, weight, params[f"{name}.bias"], padding=weight.shape[2] // 2)


def video_semantics(encoded):
    """[B,H,T] -> [B,H*H]"""
    pooled = torch.bmm(encoded, encoded.transpose(1, 2)) / encoded.shape[2] ** 2
    rooted = torch.sign(pooled) * torch.sqrt(pooled.abs() + 1e-5)
    return F.normalize(rooted.flatten(1), dim=1)


def network(params, features, *, streams=("rgb", "flow"), rgb_fusion=0.1, dropout=0.5, training=True):
    """features [B,T,D] -> dict with cas, cas_bg, actionness, video_logits, and by stream stream_actionness

    In training also mixed_actionness and stream_video_logits by stream, which only the losses read.
    """

    def encode(name, x):
        return F.dropout(F.relu(convolution(params, f"{name}.0", x)), dropout, training)

    def actionness_of(stream, encoded):
        return torch.sigmoid(convolution(params, f"cls_{stream}.0", encoded)).squeeze(1)  # [B,T]

    def score(encoded):
        return F.linear(video_semantics(encoded), params["fc.weight"], params["fc.bias"])

    x = features.transpose(1, 2)
    stream_x = dict(zip(streams, x.chunk(len(streams), 1), strict=True))
    encoded = encode("encoder", x)
    stream_encoded = {s: encode(f"action_{s}", stream_x[s]) for s in streams}
    stream_actionness = {s: actionness_of(s, stream_encoded[s]) for s in streams}
    if len(streams) == 1:
        actionness = stream_actionness[streams[0]]
    else:
        actionness = (1 - rgb_fusion) * stream_actionness["flow"] + rgb_fusion * stream_actionness["rgb"]

    semantics = F.linear(video_semantics(encoded), params["fc1.weight"], params["fc1.bias"])  # [B,H]
    propagated = encoded + actionness.unsqueeze(1) * semantics.unsqueeze(2)
    cas = convolution(params, "cls.0", propagated).transpose(1, 2)  # [B,T,C]
    out = {
        "cas": cas,
        "cas_bg": cas * (1 - actionness).unsqueeze(2),
        "actionness": actionness,
        "stream_actionness": stream_actionness,
        "video_logits": score(encoded),
    }
    if training:
        mixed_x = {s: stream_x[s] + stream_x[s].roll(1, 0) for s in streams}
        out["mixed_actionness"] = {s: actionness_of(s, encode(f"action_{s}", mixed_x[s])) for s in streams}
        out["stream_video_logits"] = {s: score(stream_encoded[s]) for s in streams}
    return out


def combined_sequence(out):
    """[B,T,C]: the mean of class probabilities and each stream's actionness"""
    actionness = list(out["stream_actionness"].values())
    return (out["cas"].softmax(2) + sum(a.unsqueeze(2) for a in actionness)) / (1 + len(actionness))


def topk_rows(values, by, k):
    """[T,C] x2 of one video -> [C]: per class, the mean of values over the k rows where `by` is largest."""
    return torch.stack([values[by[:, c].topk(k).indices, c].mean() for c in range(values.shape[1])])


def label_cross_entropy(logits, labels):
    """[B,C] x2 -> scalar, the mean over the batch"""
    share = labels / labels.sum(1, keepdim=True) + 1e-10
    return -(share * F.log_softmax(logits, 1)).sum(1).mean()


def top_rows(values, k):
    """[T] -> [T], 1 on the k largest"""
    chosen = torch.zeros_like(values)
    chosen[values.topk(k).indices] = 1
    return chosen


def generalized_cross_entropy(actionness, label, weight):
    """[B,T] x3 -> scalar, the mean over the batch; q = 0.5"""
    e, terms = 1e-7, []
    for a, h, w in zip(actionness, label, weight, strict=True):
        action = (w * h * (1 - (a + e) ** 0.5) / 0.5).sum() / ((w * h).sum() + e)
        background = (w * (1 - h) * (1 - (1 - a + e) ** 0.5) / 0.5).sum() / ((w * (1 - h)).sum() + e)
        terms.append(action + background)
    return sum(terms) / len(terms)


def new_mask_state(num_classes, device="cpu"):
    """The running mean and variance before the first step."""
    return {"mean": torch.tensor(1 / num_classes, device=device), "var": torch.tensor(1.0, device=device)}


@torch.no_grad()
def actionness_targets(out, mask_state):
    """Pseudo labels and mask weights of the batch and of its mixed videos, [B,T] each. Updates mask_state."""
    cas, actionness = out["cas"], out["actionness"]
    t = cas.shape[1]
    evidence = cas.relu().sum(2)
    label = torch.stack(
        [top_rows(a, t // 8 + 17) * top_rows(v, t // 2) for a, v in zip(actionness, evidence, strict=True)]
    )
    confidence = cas.softmax(2).amax(2)
    mask_state["mean"] = 0.7 * mask_state["mean"] + 0.3 * confidence.mean()
    mask_state["var"] = 0.7 * mask_state["var"] + 0.3 * confidence.var()
    below = torch.minimum(confidence - mask_state["mean"], torch.zeros_like(confidence))
    weight = torch.exp(-(below**2) / (2 * mask_state["var"] / 4))
    return label, weight, torch.maximum(label, label.roll(1, 0)), (weight + weight.roll(1, 0)) / 2


def training_loss(out, labels, mask_state):
    """labels [B,C] -> (weighted total, dict of unweighted terms). Updates mask_state."""
    cas, cas_bg, streams = out["cas"], out["cas_bg"], list(out["stream_actionness"])
    k, classes = cas.shape[1] // 8, cas.shape[2]
    label, weight, mixed_label, mixed_weight = actionness_targets(out, mask_state)

    salient = torch.stack([topk_rows(v, q, k) for v, q in zip(cas, combined_sequence(out), strict=True)])
    background = torch.stack([topk_rows(v, p, k) for v, p in zip(cas_bg, cas_bg.softmax(2), strict=True)])
    uniform_divergence = (1 / classes * (math.log(1 / classes) - F.log_softmax(background, 1))).sum(1)
    actionness, mixed = out["stream_actionness"], out["mixed_actionness"]
    terms = {
        "mil": label_cross_entropy(salient, labels),
        "bg": uniform_divergence.mean(),
        "act": sum(generalized_cross_entropy(actionness[s], label, weight) for s in streams),
        "mix": sum(generalized_cross_entropy(mixed[s], mixed_label, mixed_weight) for s in streams),
        "mutual": ((actionness[streams[0]] - actionness[streams[-1]]) ** 2).mean(),
        "so": sum(
            label_cross_entropy(z, labels) for z in [out["video_logits"], *(out["stream_video_logits"].values())]
        ),
    }
    return sum(LOSS_WEIGHTS[name] * term for name, term in terms.items()), terms


def adam(params):
    """torch's default Adam with the recipe's numbers."""
    return torch.optim.Adam(params.values(), lr=1e-4, weight_decay=5e-4)


def training_step(params, optimizer, features, labels, mask_state, **options):
    """One step in place, `options` as for `network` -> (total, terms)."""
    total, terms = training_loss(network(params, features, **options), labels, mask_state)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total, terms


def class_scores(cas, sequence, video_logits, beta=0.35):
    """cas [T,C], combined sequence [T,C], video_logits [C] of one video -> S [C]"""
    return (beta * topk_rows(cas, sequence, len(cas) // 8) + (1 - beta) * video_logits).softmax(0)


def localize_video(sequence, scores, num_snippets, *, scale=24, thresholds=THRESHOLDS, soft_alpha=0.3):
    """Combined sequence [T,C], class scores [C] -> list of (class, start, end, score), class by class."""
    classes = [c for c, score in enumerate(scores.tolist()) if score >= 0.25] or [int(scores.argmax())]
    shares = (0.2 * scores).tolist()  # in float32, like the network's scores
    detections = []
    for c in classes:
        points = loops.upsample(sequence[:, c].tolist(), scale)
        made = loops.proposals(points, shares[c], num_snippets, thresholds, 0.2, 1.0)
        segments = [(start, end) for start, end, _ in made]
        kept = loops.nms(segments, [score for _, _, score in made], 0.4, 1.0, soft_alpha)
        detections += [(c, *segments[i], score) for i, score in kept]
    return detections


def mean_average_precision(truth, detections, num_classes, tious):
    """truth: list of (video, class, start, end); detections: list of (video, class, start, end, score) -> mAP per tIoU."""
    instances = [[(v, s, e) for v, c, s, e in truth if c == label] for label in range(num_classes)]
    answers = [[(v, s, e, score) for v, c, s, e, score in detections if c == label] for label in range(num_classes)]
    present = [label for label in range(num_classes) if instances[label]]
    return [
        sum(loops.average_precision(instances[label], answers[label], tiou) for label in present) / len(present)
        for tiou in tious
    ]
