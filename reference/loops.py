"""The method once more, in plain loops straight from docs/method.md: slow, obvious, and what the fast code is held to."""

# mypy: allow-untyped-defs
# (benchmarks/ imports this file and is checked; the plain formulation reads better bare)

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
    for stream, x in zip(model.streams, features.split(model.feature_size, 2), strict=True):
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
