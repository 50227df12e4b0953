"""The method once more, in plain loops straight from docs/method.md: slow, obvious, and what the fast code is held to."""

# mypy: allow-untyped-defs
# (benchmarks/ imports this file and is checked; the plain formulation reads better bare)

import itertools
import math

import torch
import torch.nn.functional as F


def second_order_pooling(x, eps=1e-5):
    """x [T,H] of one video -> [H*H]."""
    t, h = x.shape
    pooled = torch.zeros(h, h, dtype=x.dtype)
    for i in range(h):
        for j in range(h):
            c = sum(float(x[n, i]) * float(x[n, j]) for n in range(t)) / t**2
            pooled[i, j] = (c > 0) - (c < 0)
            pooled[i, j] *= math.sqrt(abs(c) + eps)
    flat = pooled.reshape(-1)
    return flat / math.sqrt(sum(float(v) ** 2 for v in flat))


def topk_mean(values, by, k):
    """[T] x2 -> float"""
    order = sorted(range(len(by)), key=lambda i: -float(by[i]))[:k]
    return sum(float(values[i]) for i in order) / k


def cross_entropy(logits, labels):
    """[C] x2"""
    log_sum = math.log(sum(math.exp(float(z)) for z in logits))
    total = sum(float(y) for y in labels)
    return -sum((float(y) / total + 1e-10) * (float(z) - log_sum) for z, y in zip(logits, labels, strict=True))


def masked_gce(prob, label, weight, q, eps):
    """[T] x3 of one video"""
    action = action_weight = background = background_weight = 0.0
    for a, h, w in zip(prob.tolist(), label.tolist(), weight.tolist(), strict=True):
        action += w * h * (1 - (a + eps) ** q) / q
        action_weight += w * h
        background += w * (1 - h) * (1 - (1 - a + eps) ** q) / q
        background_weight += w * (1 - h)
    return action / (action_weight + eps) + background / (background_weight + eps)


def pseudo_labels(actionness, cas, count, confident):
    """actionness [T], cas [T,C] -> list of 0 and 1"""
    t = len(actionness)
    evidence = [sum(max(float(v), 0.0) for v in row) for row in cas]
    most_action = set(sorted(range(t), key=lambda i: -float(actionness[i]))[:count])
    most_evidence = set(sorted(range(t), key=lambda i: -evidence[i])[:confident])
    return [float(i in most_action and (confident == 0 or i in most_evidence)) for i in range(t)]


def separate_convolutions(model, features):
    """Actionness of the mixed-up features by a convolution of its own: {stream: [B,T]}, dropout off."""
    out = {}
    for stream, x in zip(model.config.streams, features.split(model.config.feature_size, 2), strict=True):
        mixed = (x + x.roll(1, 0)).transpose(1, 2)
        encode = model.get_submodule(f"action_{stream}.0")
        score = model.get_submodule(f"cls_{stream}.0")
        encoded = F.relu(F.conv1d(mixed, encode.weight, encode.bias, padding=encode.weight.shape[2] // 2))
        out[stream] = torch.sigmoid(F.conv1d(encoded, score.weight, score.bias)).squeeze(1)
    return out


def upsample(sequence, scale):
    """list of T floats -> list of scale*T floats"""
    t = len(sequence)
    points = []
    for i in range(scale * t):
        x = i / scale
        left = min(int(x), t - 2)
        points.append(sequence[left] + (sequence[left + 1] - sequence[left]) * (x - left))
    return points


def proposals(points, class_score, num_snippets, scale, thresholds, margin, gamma, snippet_frames=16, fps=25.0):
    """One class's points -> list of (start, end, score)."""
    n_points = len(points)
    seconds = snippet_frames * num_snippets / (n_points * fps)
    found = []
    for threshold in thresholds:
        indices = [i for i, p in enumerate(points) if p >= threshold]
        if indices in ([], [0]):
            continue
        runs = []
        for i in indices:
            if runs and i == runs[-1][-1] + 1:
                runs[-1].append(i)
            else:
                runs.append([i])
        for run in runs:
            i, j, n = run[0], run[-1], len(run)
            inner = [points[k] for k in run]
            left = range(max(0, int(i - margin * n)), i)
            right = range(j + 1, min(n_points - 1, int(j + margin * n)) + 1)
            outer = [points[k] for k in [*left, *right]]
            contrast = sum(inner) / n - (sum(outer) / len(outer) if outer else 0.0)
            found.append((i * seconds, (j + 1) * seconds, contrast + gamma * class_score))
    return found


def iou(a, b, offset=0.0):
    """of (start, end) pairs"""
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]) + offset)
    union = (a[1] - a[0] + offset) + (b[1] - b[0] + offset) - inter
    return inter / union if union > 0 else 0.0


def nms(segments, scores, threshold, offset, soft_alpha=None):
    """list of (start, end), list of float -> list of (position, score), best first. soft_alpha None: hard."""
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept, decayed = [], []
    while left:
        best, *rest = left
        kept.append((best, scores[best]))
        left = []
        for i in rest:
            overlap = iou(segments[best], segments[i], offset)
            if overlap > threshold:
                if soft_alpha is not None:
                    decayed.append((i, scores[i] * math.exp(-(overlap**2) / soft_alpha)))
            else:
                left.append(i)
    return sorted(kept + decayed, key=lambda pair: -pair[1])


def average_precision(truth, detections, tiou):
    """truth: list of (video, start, end); detections: list of (video, start, end, score), one class -> AP."""
    order = sorted(range(len(detections)), key=lambda i: -detections[i][3])
    taken, hits = set(), []
    for i in order:
        video, start, end, _ = detections[i]
        overlaps = [(iou((start, end), (s, e)), j) for j, (v, s, e) in enumerate(truth) if v == video]
        hit = False
        for overlap, j in sorted(overlaps, key=lambda pair: -pair[0]):
            if overlap < tiou:
                break
            if j not in taken:
                taken.add(j)
                hit = True
                break
        hits.append(hit)
    precision, recall, positives = [0.0], [0.0], 0
    for n, hit in enumerate(hits, 1):
        positives += hit
        precision.append(positives / n)
        recall.append(positives / len(truth))
    precision.append(0.0)
    recall.append(1.0)
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in range(1, len(recall)) if recall[i] != recall[i - 1])


# The plain formulation of a whole step and a whole test pass, in torch where the loops above would take hours. Parameters are a
# dict with the names of the model's state_dict; numbers are the THUMOS'14 recipe's. Nothing here is arranged for speed.

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
    """features [B,T,D] -> dict. Dicts by stream: stream_actionness, and only in training, whose losses alone read them,
    mixed_actionness and stream_video_logits."""

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
    """[B,T,C]"""
    actionness = list(out["stream_actionness"].values())
    return (out["cas"].softmax(2) + sum(a.unsqueeze(2) for a in actionness)) / (1 + len(actionness))


def topk_rows(values, by, k):
    """[T,C] x2 of one video -> [C]: for every class the mean of values over the k rows where `by` is largest."""
    return torch.stack([values[by[:, c].topk(k).indices, c].mean() for c in range(values.shape[1])])


def label_cross_entropy(logits, labels):
    """[B,C] x2"""
    share = labels / labels.sum(1, keepdim=True) + 1e-10
    return -(share * F.log_softmax(logits, 1)).sum(1).mean()


def top_rows(values, k):
    """[T] -> [T], 1 on the k largest"""
    chosen = torch.zeros_like(values)
    chosen[values.topk(k).indices] = 1
    return chosen


def generalized_cross_entropy(actionness, label, weight):
    """[B,T] x3; q = 0.5"""
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
    """The optimiser as torch has it by default."""
    return torch.optim.Adam(params.values(), lr=1e-4, weight_decay=5e-4)


def training_step(params, optimizer, features, labels, mask_state, **options):
    """One step in place, `options` as for `network` -> (total, terms)."""
    total, terms = training_loss(network(params, features, **options), labels, mask_state)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total, terms


def resample(video, t, generator=None):
    """[L,D] -> [t,D]: random snippets from a numpy generator, as in training; without one uniform, as in test."""
    length = len(video)
    if length == t:
        return video
    bounds = [i * length // t for i in range(t)] + [length - 1]
    indices = []
    for low, high in itertools.pairwise(bounds):
        if generator is None or low == high:
            indices.append(low)
        else:
            indices.append(int(generator.integers(low, high + 1)))
    return video[indices]


def class_scores(cas, sequence, video_logits, beta=0.35):
    """cas [T,C], combined sequence [T,C], video_logits [C] of one video -> S [C]"""
    return (beta * topk_rows(cas, sequence, len(cas) // 8) + (1 - beta) * video_logits).softmax(0)


def localize_video(sequence, scores, num_snippets, *, scale=24, thresholds=THRESHOLDS, soft_alpha=0.3):
    """Combined sequence [T,C], class scores [C] -> list of (class, start, end, score), class by class."""
    classes = [c for c, score in enumerate(scores.tolist()) if score >= 0.25] or [int(scores.argmax())]
    shares = (0.2 * scores).tolist()  # scores are the network's float32, and so is their share
    found = []
    for c in classes:
        points = upsample(sequence[:, c].tolist(), scale)
        made = proposals(points, shares[c], num_snippets, scale, thresholds, 0.2, 1.0)
        segments = [(start, end) for start, end, _ in made]
        kept = nms(segments, [score for _, _, score in made], 0.4, 1.0, soft_alpha)
        found += [(c, *segments[i], score) for i, score in kept]
    return found


def mean_average_precision(truth, detections, num_classes, tious):
    """truth: list of (video, class, start, end); detections: list of (video, class, start, end, score) -> mAP per tIoU."""
    of_class = [[(v, s, e) for v, c, s, e in truth if c == label] for label in range(num_classes)]
    found = [[(v, s, e, score) for v, c, s, e, score in detections if c == label] for label in range(num_classes)]
    present = [label for label in range(num_classes) if of_class[label]]
    return [
        sum(average_precision(of_class[label], found[label], tiou) for label in present) / len(present)
        for tiou in tious
    ]
