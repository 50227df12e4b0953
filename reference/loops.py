"""The method in plain loops, straight from docs/method.md: slow, obvious, and the standard for the fast code.

Functions are in the order in which a video meets them. T snippets, D features, H hidden channels, C classes.
"""

# mypy: allow-untyped-defs
# (benchmarks/ imports this file and is type-checked; the loops read better without annotations)

import math

import torch

# Reading


def resample(video, t, generator=None):
    """[L,D] -> [t,D]: random snippets from a numpy generator, as in training; without one, evenly spaced, as in test."""
    length = len(video)
    if length == t:
        return video
    bounds = [i * length // t for i in range(t)] + [length - 1]
    indices = []
    for i in range(t):
        low, high = bounds[i], bounds[i + 1]
        if generator is None or low == high:
            indices.append(low)
        else:
            indices.append(int(generator.integers(low, high + 1)))
    return video[indices]


# The network


def convolution(x, weight, bias):
    """x [T,D] of one video by weight [H,D,k] and bias [H] -> [T,H]; snippets before and after the video count as 0."""
    t, d = x.shape
    h, _, taps = weight.shape
    out = torch.zeros(t, h, dtype=x.dtype)
    for n in range(t):
        for i in range(h):
            total = float(bias[i])
            for tap in range(taps):
                m = n + tap - taps // 2
                if 0 <= m < t:
                    total += sum(float(x[m, j]) * float(weight[i, j, tap]) for j in range(d))
            out[n, i] = total
    return out


def actionness(params, x, stream):
    """One stream's features [T,D] of one video -> [T] in (0,1), without dropout. `params` has the published names."""
    convolved = convolution(x, params[f"action_{stream}.0.weight"], params[f"action_{stream}.0.bias"])
    encoded = convolved.clamp(min=0)
    score = convolution(encoded, params[f"cls_{stream}.0.weight"], params[f"cls_{stream}.0.bias"])
    return torch.tensor([1 / (1 + math.exp(-float(z))) for z in score])


def mix_up(videos):
    """[B,T,D] -> [B,T,D]: add to each video of a batch the one before it, and to the first the last."""
    return torch.stack([videos[b] + videos[b - 1] for b in range(len(videos))])


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


def propagate_semantics(encoded, semantics, actionness):
    """encoded [T,H], semantics [H] and actionness [T] of one video -> [T,H]: action snippets learn what the video is about."""
    t, h = encoded.shape
    out = torch.zeros(t, h, dtype=encoded.dtype)
    for n in range(t):
        for i in range(h):
            out[n, i] = float(encoded[n, i]) + float(actionness[n]) * float(semantics[i])
    return out


# Learning classes from video labels


def softmax(logits):
    """[C] -> list of C probabilities"""
    powers = [math.exp(float(z)) for z in logits]
    return [power / sum(powers) for power in powers]


def combined_sequence(cas, stream_actionness, weights):
    """cas [T,C] and a dict of actionness [T] by stream, of one video -> [T,C]

    The weighted mean of a snippet's class probability and its actionness in every stream. `weights` are by stream, and "cas";
    with a stream missing, the others share its weight.
    """
    t, c = cas.shape
    present = weights["cas"] + sum(weights[stream] for stream in stream_actionness)
    scale = sum(weights.values()) / present
    out = torch.zeros(t, c, dtype=cas.dtype)
    for n in range(t):
        action = sum(weights[stream] * float(values[n]) for stream, values in stream_actionness.items())
        for i, probability in enumerate(softmax(cas[n])):
            out[n, i] = scale * (weights["cas"] * probability + action)
    return out


def topk_mean(values, by, k):
    """[T] x2 -> the mean of `values` over the k snippets where `by` is largest"""
    order = sorted(range(len(by)), key=lambda i: -float(by[i]))[:k]
    return sum(float(values[i]) for i in order) / k


def cross_entropy(logits, labels):
    """[C] x2 -> float; the labels of a video share one unit of probability."""
    log_sum = math.log(sum(math.exp(float(z)) for z in logits))
    total = sum(float(y) for y in labels)
    return -sum((float(y) / total + 1e-10) * (float(z) - log_sum) for z, y in zip(logits, labels, strict=True))


def competing_evidence(cas, labels, weight):
    """cas [T,C] and labels [C] of one video -> [T,C]: the classes that it shows compete for its snippets."""
    out = cas.clone()
    own = [c for c, label in enumerate(labels) if label > 0]
    for row, logits in zip(out, cas, strict=True):
        for c, probability in zip(own, softmax(logits[own]), strict=True):
            row[c] += weight * math.log(probability)
    return out


def background_loss(cas_bg, k):
    """cas_bg [T,C] of one video, its classes' activation where there is no action -> float, in nats

    The divergence of the video's class probabilities, over the k snippets most certain of each class, from equal ones.
    """
    classes = cas_bg.shape[1]
    by = torch.tensor([softmax(row) for row in cas_bg])
    logits = [topk_mean(cas_bg[:, i], by[:, i], k) for i in range(classes)]
    return sum((math.log(1 / classes) - math.log(p)) / classes for p in softmax(logits))


# Learning actionness from the network's own output


def pseudo_labels(actionness, cas, count, confident):
    """actionness [T], cas [T,C] of one video -> list of 0 and 1

    1 on the `count` snippets with the largest actionness that are also among the `confident` with the most class evidence.
    """
    t = len(actionness)
    evidence = [sum(max(float(v), 0.0) for v in row) for row in cas]
    most_action = set(sorted(range(t), key=lambda i: -float(actionness[i]))[:count])
    most_evidence = set(sorted(range(t), key=lambda i: -evidence[i])[:confident])
    return [float(i in most_action and (confident == 0 or i in most_evidence)) for i in range(t)]


def class_evidence(cas, labels):
    """cas [T,C], labels [C] of one video -> list of T: how much each snippet shows of the classes that the video has"""
    return [max(p if y else 0.0 for p, y in zip(softmax(row), labels, strict=True)) for row in cas]


def evidence_threshold(evidence):
    """list of T floats -> (threshold, mean below, mean above): Otsu's, by trying every cut of the sorted values"""
    values, best = sorted(evidence), None
    for n in range(1, len(values)):
        low, high = values[:n], values[n:]
        below, above = sum(low) / len(low), sum(high) / len(high)
        between = len(low) * len(high) * (above - below) ** 2
        if best is None or between > best[0]:
            best = (between, (low[-1] + high[0]) / 2, below, above)
    return best[1:]


def evidence_labels(evidence, band):
    """list of T floats -> (labels, weights), lists of T: action above the threshold, the less certain the nearer to it

    From `band` times the distance of the threshold to the mean of a snippet's side on, the snippet weighs 1.
    """
    if min(evidence) == max(evidence):
        return [0.0] * len(evidence), [0.0] * len(evidence)
    threshold, below, above = evidence_threshold(evidence)
    labels, weights = [], []
    for e in evidence:
        reach = band * (above - threshold if e > threshold else threshold - below)
        labels.append(float(e > threshold))
        weights.append(min(1.0, abs(e - threshold) / reach) if band else 1.0)
    return labels, weights


def weight_average(history, decay):
    """The values of one weight, the first before any step -> the teacher's: a running average, quick at the start"""
    average = history[0]
    for n, weight in enumerate(history[1:]):
        kept = min(decay, (1 + n) / (10 + n))
        average = kept * average + (1 - kept) * weight
    return average


def mask_weights(cas, mean, var, momentum=0.7, var_factor=0.5):
    """cas [B,T,C] of a batch, running mean and variance -> (weights as B lists of T, mean, var), the statistics updated first

    The further the classifier's confidence in a snippet falls below its usual level, the less the snippet counts.
    """
    confidence = []
    for video in cas.tolist():
        sums = [(max(row), sum(math.exp(z) for z in row)) for row in video]
        confidence.append([math.exp(largest) / total for largest, total in sums])
    every = [m for video in confidence for m in video]
    batch_mean = sum(every) / len(every)
    batch_var = sum((m - batch_mean) ** 2 for m in every) / (len(every) - 1)
    mean = momentum * mean + (1 - momentum) * batch_mean
    var = momentum * var + (1 - momentum) * batch_var
    weights = [[math.exp(-(min(m - mean, 0) ** 2) / (var_factor * var)) for m in video] for video in confidence]
    return weights, mean, var


def masked_gce(prob, label, weight, q, eps):
    """[T] x3 of one video -> float: generalized cross entropy, action and background averaged separately"""
    action = action_weight = background = background_weight = 0.0
    for a, h, w in zip(prob.tolist(), label.tolist(), weight.tolist(), strict=True):
        action += w * h * (1 - (a + eps) ** q) / q
        action_weight += w * h
        background += w * (1 - h) * (1 - (1 - a + eps) ** q) / q
        background_weight += w * (1 - h)
    return action / (action_weight + eps) + background / (background_weight + eps)


def proposal_loss(cas, taught):
    """cas, and whether a snippet is taught a class, [T,C] of one video: the mean over the snippets that are taught any."""
    terms = []
    for logits, own in zip(cas, taught, strict=True):
        prob, count = softmax(logits), sum(own.tolist())
        if count:
            terms.append(sum(-math.log(p) / count for p, label in zip(prob, own.tolist(), strict=True) if label))
    return sum(terms) / len(terms) if terms else 0.0


def border_loss(cas, border):
    """cas, and whether a snippet is taught not to be of a class, [T,C] of one video: the mean over the pairs that are."""
    terms = []
    for logits, own in zip(cas, border, strict=True):
        prob = softmax(logits)
        others = [sum(p for k, p in enumerate(prob) if k != c) for c in range(len(prob))]
        terms += [-math.log(share) for share, taught in zip(others, own.tolist(), strict=True) if taught]
    return sum(terms) / len(terms) if terms else 0.0


def mutual_loss(rgb, flow):
    """Two streams' actionness, [T] each, of one video -> float: the mean squared difference, so that each teaches the other"""
    return sum((float(a) - float(b)) ** 2 for a, b in zip(rgb, flow, strict=True)) / len(rgb)


# From sequences to instances


def upsample(sequence, scale):
    """list of T floats -> list of scale*T floats, linear in between; the last slope continues past the end"""
    t = len(sequence)
    points = []
    for i in range(scale * t):
        x = i / scale
        left = min(int(x), t - 2)
        points.append(sequence[left] + (sequence[left + 1] - sequence[left]) * (x - left))
    return points


def proposals(points, class_score, num_snippets, thresholds, margin, gamma, snippet_frames=16, fps=25.0):
    """One class's points -> list of (start, end, score), in seconds. A run's score is its contrast with its surroundings."""
    n_points = len(points)
    seconds = snippet_frames * num_snippets / (n_points * fps)
    made = []
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
            made.append((i * seconds, (j + 1) * seconds, contrast + gamma * class_score))
    return made


def iou(a, b, offset=0.0):
    """Overlap of two (start, end) pairs as a share of their union; `offset` is added to every length."""
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]) + offset)
    union = (a[1] - a[0] + offset) + (b[1] - b[0] + offset) - inter
    return inter / union if union > 0 else 0.0


def nms(segments, scores, threshold, offset, soft_alpha=None):
    """list of (start, end), list of float -> list of (position, score), best first

    Segments that overlap the current best too much are dropped (soft_alpha None), or kept with their scores decayed once.
    """
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


# Evaluation


def dense_proposals(segments, scores, least_density, least_iou):
    """Proposals of one class in one video, (start, end) and score -> the (start, end) that many agree on, densest first."""
    scored = [(segment, max(score, 0.0)) for segment, score in zip(segments, scores, strict=True)]
    density = [score * sum(other * iou(segment, s) for s, other in scored) for segment, score in scored]
    left, found = [n for n, value in enumerate(density) if value > 0], []
    densest = max(density, default=0.0)
    while left:
        best = max(left, key=lambda n: density[n])
        if density[best] < least_density * densest:
            break
        alike = [
            n for n in left if iou(segments[n], segments[best]) >= least_iou and iou(segments[n], segments[best]) > 0
        ]
        total = sum(density[n] for n in alike)
        found.append(tuple(sum(density[n] * segments[n][edge] for n in alike) / total for edge in (0, 1)))
        left = [n for n in left if iou(segments[n], segments[best]) == 0]
    return found


def average_precision(truth, detections, tiou):
    """truth: list of (video, start, end); detections: list of (video, start, end, score), one class -> AP

    Each detection, best first, takes the instance it overlaps most among those not yet taken.
    """
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
