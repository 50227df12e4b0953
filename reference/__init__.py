"""SAL, written to be read: the method in plain loops (loops.py), then a whole training step in plain torch (formulas.py).

The task: training videos say which actions they contain, not when. Find every instance in a test video, as a class, a start,
an end and a score. A video arrives as snippets of 16 frames, each with RGB and flow features.

Read loops.py from top to bottom; each function is one idea, for one video or one class:

1. `resample`: every video is read as T snippets.
2. `convolution`, `actionness`: one convolution per stream says how likely each snippet is to be action, of any class. Another,
   over both streams, encodes the snippets for classification.
3. `second_order_pooling`: how channels fire together over the entire video is its semantics. They classify the video, and
   `propagate_semantics` passes them back to its snippets before those are classified.
4. `combined_sequence`, `topk_mean`, `cross_entropy`: a video's class score is the mean over its k most telling snippets, so
   that video labels are enough to teach snippets. `background_loss`: snippets without action tell nothing of the class.
5. `pseudo_labels`, `mask_weights`, `masked_gce`: the network's own most certain snippets teach actionness, each weighted by the
   classifier's confidence in it; `mix_up` teaches it again on sums of two videos; `mutual_loss` makes the streams agree.
6. `upsample`, `proposals`, `nms`: runs of snippets above a threshold become instances, scored by how they stand out from their
   surroundings. Of those that overlap, the best stays.
7. `average_precision`: how good the result is.

formulas.py puts the same ideas together: network, losses, an optimiser's step, and the way from a test video to mAP.
docs/method.md has them as formulas. Nothing here is written for speed or imports anything from the project: the fast code is
tested against it, and the benchmarks time it.
"""
