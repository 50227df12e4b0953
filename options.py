"""Every option of the program: its flag, default, help with the unit, and range in one line.

    flags = parse_flags(sys.argv[1:])          # what the user typed, nothing else
    options = resolve(flags)                   # the preset and the recipe (recipes.py), then the flags on top; checked
    SAL(options.model, ...)                    # each part takes the groups it needs

The defaults are the published THUMOS'14 recipe. To change a default, edit its line here; to add an option, add its line.
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("options.py", run="python main.py --help")

import math
import os
import pathlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from command_line.flags import Flag, FlagTable, Parser, group, option
from command_line.shares import Share, parse_share
from recipes import AUTO, FROM_DATA, PRESETS, PUBLISHED, RECIPES, STABLE
from utils.errors import InputError
from utils.ranges import in_span, parse_grid, parse_span
from utils.snippet_grid import DEFAULT_FPS, SnippetGrid, topk_count

# --select -> the evaluation in results.json that best.pt is of.
SELECTIONS: Mapping[str, str] = MappingProxyType({"test": "best", "last": "last", "val": "val"})

SMALLEST_SHARE = (
    1e-6  # of the combined sequence, that streams in use must have: they are scaled up for those that are not
)


# fmt: off
@dataclass(frozen=True)
class DataOptions:
    """The data to read, and how their snippets become T snippets and seconds."""

    dataset: str = option("thumos14", "preset: a frozen set of defaults that other flags override", choices=tuple(PRESETS))
    recipe: str = option(PUBLISHED, "numbers of training, on top of --dataset's and under other flags. published: as they are; stable: for any data, and T, H, learning rate, epochs, evaluations and class threshold are taken from the training videos' lengths, number and classes; auto: published for a set like THUMOS'14 or ActivityNet, else stable", choices=(*RECIPES, AUTO))
    data_path: str = option("", "folder with the features and their ground truth; see the README for layouts")
    layout: str = option("auto", "how the set lies on disk, a name from docs/data.md; auto: recognised from the folder")
    ground_truth: str = option("", "JSON file with labels and segments", shown="gt.json in --data_path, or the only JSON file there")
    allow_pickle: bool = option(False, "read pickled feature sets; only arrays and plain values are built from them")
    skip_unusable: bool = option(False, "leave out videos without features or annotation and segments that end at or before their start, and say how many, instead of refusing the set")
    modal: str = option("all", "streams to use", choices=("all", "rgb", "flow"))
    num_segments: int = option(750, "T, snippets that a video is resampled to", range="[1,1000000]")
    feature_size: int = option(1024, "channels of each stream's features", range="[1,65536]")
    snippet_frames: int = option(16, "frames that a snippet covers", range="[1,1000000]")
    snippet_stride: int | None = option(None, "frames from the start of one snippet to the next", range="[1,1000000]", shown="--snippet_frames, no overlap")
    fps: float | None = option(None, "frame rate that the features were extracted at, frames per second", range="[0.01,10000]", shown=f"each video's own in the ground truth, or {DEFAULT_FPS:g} if it states none")
    short_videos: str = option("stretch", "videos with fewer than T snippets. stretch: resampled to T like others; keep: as they are in test, T sorted draws with replacement in training", choices=("stretch", "keep"))
    cache: str = option("auto", "where features are kept: on the training device, in memory, or in their files; auto: on a GPU with ample room for them, else in memory", choices=("auto", "device", "ram", "mmap"))
    num_workers: int = option(1, "threads that prepare batches ahead of time; more for --cache mmap on a slow disk; 0: none", range="[0,1024]")

    @property
    def streams(self) -> tuple[str, ...]:
        return ("rgb", "flow") if self.modal == "all" else (self.modal,)

    @property
    def grid(self) -> SnippetGrid:
        return SnippetGrid(frames=self.snippet_frames, stride=self.snippet_stride or self.snippet_frames)


@dataclass(frozen=True)
class RunOptions:
    """One call of the program: what it does, where, and what it writes."""

    exp_name: str = option("", "name of the experiment, a folder in --output_dir", shown="name of the data folder and time; with --resume, --predict or --inference_only: the last experiment")
    output_dir: str = option("output", "folder of the experiments")
    resume: bool = option(False, "continue the experiment from its last.pt, to the same numbers as without the interruption")
    overwrite: bool = option(False, "start over under the name of an experiment that has checkpoints; its folder is kept as NAME.old, NAME.old-2, ...")
    inference_only: bool = option(False, "no training: load a checkpoint, write detections, print the table")
    check_data: bool = option(False, "no training: check the data set and print what is wrong with it; exit code 0 fine, 1 warnings, 2 errors")
    list: bool = option(False, "with --check_data: print every video and file of every finding, not three; --verbose does so too")
    predict: tuple[str, ...] = option((), "no training, no labels needed: find the actions in these feature files, folders of them, HDF5 files or data sets", metavar="FEATURES")
    shard: str = option("1/1", "with --predict: share I of N of the videos, for N processes on any machines; the same command without --shard then joins them in --out", parse=parse_share, shown="all videos")
    report: tuple[str, ...] = option((), "no training: write the report of these runs, folders or names in --output_dir, again; of two or more a comparison", metavar="RUN", shown="the last experiment")
    plot: str = option("", "no training: draw the timeline of this test video, as the experiment's best model sees it, for a paper")
    model_file: str = option("", "checkpoint for --predict and --inference_only, ours or a published state dict", shown="the experiment's best.pt")
    classes: str = option("", "class names of a checkpoint that names none: a text file with one per line in the order of the model's outputs, or a ground truth, whose classes are taken sorted", shown="the checkpoint's own")
    out: str = option("", "new folder for the results of --predict; file for --report (.html) or --plot (.pdf, .svg or .png)", shown="predictions/NAME in the working folder, NAME that of the features; the run's report.html, comparison.html beside the first run; VIDEO.pdf in the working folder")
    init_from: str = option("", "checkpoint whose weights training starts from; classes may differ", shown="random weights")
    device: str = option("auto", "auto (a CUDA GPU if there is one), cpu, cuda or cuda:INDEX")
    precision: str = option("auto", "number format of the large matrix products (weights, moments and losses are always float32); auto: tf32 on a GPU that supports it, else fp32; bf16 changes results", choices=("auto", "fp32", "tf32", "bf16"))
    deterministic: bool = option(False, "on a GPU, take deterministic algorithms alone, which are slower: two runs then have the same numbers to the last bit, as they have on a CPU anyway")
    compile: bool = option(False, "torch.compile the training step and the forward pass in test: CUDA graphs on a GPU, C++ on a CPU; takes a minute at the start")
    cuda_graph: bool = option(True, "on a GPU, take the training step as one CUDA graph instead of hundreds of launches; --compile makes graphs of its own")
    threads: int | None = option(None, "CPU threads of torch; another number moves the last bits of results; --resume keeps the experiment's", range="[1,1024]", shown="as many as CPUs, or OMP_NUM_THREADS")
    products: str = option("auto", "library of large float32 matrix products on a CPU: torch's BLAS, or oneDNN; another one moves the last bits of results; auto: BLAS unless oneDNN is clearly faster, measured at the start; --resume keeps the experiment's", choices=("auto", "blas", "onednn"))
    rank_timeout: float = option(20.0, "seconds that the processes of torchrun wait for one that does not come, or shows no sign of life, before they end", range="[1,86400]")
    seed: int = option(1, "seed of the weights, batches and dropout", range="[0,4294967296)")
    verbose: bool = option(False, "print every evaluation, which is done anyway where there is no terminal, and AP per class at the end")
    save_epochs: int = option(1, "epochs between saves of last.pt", range="[1,1000000000]")
    save_minutes: float = option(1.0, "least minutes between saves of last.pt and of new best models; also at least ten times what the last save took, so that saving costs little. The first, the end and an interrupt are always saved; 0: all are, whatever it costs", range="[0,1000000]")
    keep_state: bool = option(False, "keep the optimiser's state in last.pt, two thirds of its size, and the teacher of --teacher_decay, when the run is complete; a longer --num_epochs with --resume then goes on as if it had never ended")
    eval_workers: int | None = option(None, "processes that localize and measure what the network predicts in evaluations, while training goes on; 0: training waits for each evaluation. Results are the same", range="[0,64]", shown="0 on a CPU, up to 3 on a GPU")
    log_steps: int = option(10, "steps between points of the curves", range="[1,1000000000]")
    write_report: bool = option(True, "write report.html when training or --inference_only ends")
    video_dir: str = option("", "folder with the videos' files, which the report plays above their timelines", shown="no player")
    image_epochs: int = option(25, "epochs between TensorBoard's pictures of three test videos' timelines; 0: at the end alone; none with --no-write_report", range="[0,1000000000]")

    @property
    def share(self) -> Share:
        return parse_share(self.shard)


@dataclass(frozen=True)
class ModelOptions:
    """Shape and fixed numbers of the network (docs/method.md, section 2)."""

    hidden_size: int = option(512, "H, hidden channels", range="[1,65536]")
    kernel_size: int = option(3, "width of the encoder's convolution, snippets, odd", range="[1,999]")
    actionness_kernel_size: int = option(3, "width of the per-stream encoders' convolution, snippets, odd", range="[1,999]")
    rgb_fusion: float = option(0.1, "weight of RGB in the fused actionness; flow has the rest", range="[0,1]")
    dropout: float = option(0.5, "share of hidden values dropped in training", range="[0,1)")
    sqrt_eps: float = option(1e-5, "added inside the signed square root of second-order pooling", range="[1e-30,1]")


@dataclass(frozen=True)
class FusionOptions:
    """The combined sequence q, and the share of snippets that scores a video (docs/method.md, section 3)."""

    fuse_cas: float = option(1 / 3, "weight of the class probabilities", range="[0,1]")
    fuse_rgb: float = option(1 / 3, "weight of the RGB actionness", range="[0,1]")
    fuse_flow: float = option(1 / 3, "weight of the flow actionness", range="[0,1]")
    mil_ratio: float = option(0.125, "share of T in the top-k mean of MIL, and of the video's class scores", range="(0,1]")

    @property
    def weights(self) -> dict[str, float]:
        return {"cas": self.fuse_cas, "rgb": self.fuse_rgb, "flow": self.fuse_flow}


@dataclass(frozen=True)
class LossOptions:
    """Weights of the loss terms, and the numbers inside them (docs/method.md, section 3)."""

    w_mil: float = option(1.0, "weight of top-k multiple instance learning", range="[0,1000000]")
    w_bg: float = option(10.0, "weight of the background loss", range="[0,1000000]")
    w_act: float = option(1.0, "weight of the masked generalized cross entropy of actionness", range="[0,1000000]")
    w_mix: float = option(1.0, "weight of the same loss on mixed-up segments", range="[0,1000000]")
    w_mutual: float = option(5.0, "weight of the mutual loss between the streams' actionness", range="[0,1000000]")
    w_self: float = option(0.0, "weight of the classes that the network's own proposals teach snippets, in rounds; 0: no self-training", range="[0,1000000]")
    w_so: float = option(3.0, "weight of the second-order video classification", range="[0,1000000]")
    mil_rank: str = option("combined", "rank snippets for MIL by the combined sequence, or by the cas itself", choices=("combined", "cas"))
    mil_competition: float = option(0.0, "with --mil_rank cas, how much the classes of a training video compete for its snippets: weight of the log probability among them; 0: not", range="[0,1000000]")
    bg_ratio: float = option(0.125, "share of T in the top-k mean of the background loss", range="(0,1]")
    q_val: float = option(0.5, "q of the generalized cross entropy", range="[0.001,1]")
    gce_eps: float = option(1e-7, "e of the generalized cross entropy", range="[1e-30,1]")
    label_eps: float = option(1e-10, "added to every class's share of the video label", range="[0,1]")

    @property
    def weights(self) -> dict[str, float]:
        """{term: weight}: every option called w_TERM."""
        return {f.name.removeprefix("w_"): getattr(self, f.name) for f in fields(self) if f.name.startswith("w_")}


@dataclass(frozen=True)
class ActionnessOptions:
    """Pseudo labels and the adaptive mask (docs/method.md, sections 3 and 9)."""

    pseudo_source: str = option("actionness", "what pseudo labels are made of. actionness: the snippets with the most of it, a fixed share; classes: those that show the video's own classes, by a threshold that each video has of its own", choices=("actionness", "classes"))
    pseudo_band: float = option(1.0, "with --pseudo_source classes, distance from the threshold from which a snippet weighs 1, in distances of the threshold to the mean of that side; nearer ones weigh less; 0: all weigh 1", range="[0,1000000]")
    teacher_decay: float = option(0.0, "the share of its weights that the teacher of pseudo labels and mask, a running average of the network, keeps in a step; 0: no teacher, the network teaches itself", range="[0,1)")
    pseudo_ratio: float = option(0.125, "share of T that gets a pseudo label, by actionness", range="[0,1]")
    pseudo_extra: int = option(17, "further snippets that get one, whatever T is", range="[0,1000000]")
    confidence_ratio: float = option(0.5, "share of T, by class evidence, that pseudo labels must lie within; 0: no such condition", range="[0,1]")
    mask_momentum: float = option(0.7, "share of the old value in the adaptive mask's running mean and variance", range="[0,1]")
    mask_var_factor: float = option(0.5, "f in the mask's weight exp(-d^2 / (f variance))", range="[1e-6,1000000]")
    mask_mean_init: float | None = option(None, "running mean before the first step", range="[0,1]", shown="1 / classes")
    mask_var_init: float = option(1.0, "running variance before the first step", range="[1e-30,1000000]")

    def label_count(self, num_segments: int) -> int:
        """Snippets of T that get a pseudo label by their actionness."""
        return topk_count(self.pseudo_ratio, num_segments) + self.pseudo_extra


@dataclass(frozen=True)
class SelfTrainingOptions:
    """Rounds in which the network's own proposals teach it, with --w_self (docs/method.md, section 9)."""

    self_from: float = option(1 / 3, "share of the steps before the first round", range="[0,1)")
    self_rounds: int = option(3, "rounds, equally long; each begins with new proposals", range="[1,1000]")
    self_density: float = option(0.3, "least density of a proposal that teaches, as a share of the densest's of its class in the video", range="[0,1]")
    self_fuse: float = option(1.0, "tIoU with the densest from which on proposals are fused with it, their edges averaged by density; 1: none are, its own edges stay", range="[0,1]")
    self_border: float = option(0.0, "share of its length on each side of a teaching proposal, at least a snippet, where snippets below Otsu's threshold of the class's sequence are taught that they are not of the class; 0: none are", range="[0,1000]")
    self_whole: bool = option(False, "teach every snippet inside a teaching proposal its class, also those below Otsu's threshold of the class's sequence")

    def round_steps(self, total_steps: int) -> list[int]:
        """The steps, counted from 0, before which a round begins."""
        share = (1 - self.self_from) / self.self_rounds
        return [int((self.self_from + share * i) * total_steps) for i in range(self.self_rounds)]


@dataclass(frozen=True)
class AblationOptions:
    """Parts of the method that are left out, the computation included, and with them what is computed of them."""

    no_second_order: bool = option(False, "leave out second-order video semantics: their pooling and classification, and with them their propagation; the class scores are then the top-k ones, whatever --beta")
    no_propagation: bool = option(False, "leave out the propagation of video semantics to action segments, the largest layer")
    no_actionness: bool = option(False, "leave out the streams' actionness, and with it the background, actionness, mix-up and mutual losses: snippets are ranked by their class probabilities, semantics reach all of them alike")
    no_mixup: bool = option(False, "leave out segment mix-up")
    no_mask: bool = option(False, "leave out the adaptive actionness mask: all pseudo labels weigh 1")
    no_mutual: bool = option(False, "leave out the mutual loss between the streams' actionness")

    @property
    def second_order(self) -> bool:
        return not self.no_second_order

    @property
    def propagation(self) -> bool:
        return self.second_order and not self.no_propagation

    @property
    def actionness(self) -> bool:
        return not self.no_actionness

    @property
    def mixup(self) -> bool:
        return self.actionness and not self.no_mixup

    @property
    def mask(self) -> bool:
        return self.actionness and not self.no_mask

    @property
    def mutual(self) -> bool:
        return self.actionness and not self.no_mutual


@dataclass(frozen=True)
class OptimisationOptions:
    """Adam, batches and the length of training (docs/method.md, section 4)."""

    lr: float = option(1e-4, "Adam's learning rate", range="(0,1e38]")
    lr_schedule: str = option("constant", "what becomes of it. constant: it stays; cosine: it falls to 0 at the last step, slowly at first and at last", choices=("constant", "cosine"))
    beta1: float = option(0.9, "Adam's decay of the mean gradient", range="[0,1)")
    beta2: float = option(0.999, "Adam's decay of the mean squared gradient", range="[0,1)")
    weight_decay: float = option(5e-4, "L2 weight decay, added to the gradient", range="[0,1000000]")
    batch_size: int = option(2, "B, videos per step", range="[1,1000000]")
    drop_last: bool = option(False, "leave out an epoch's last batch unless it is full")
    num_epochs: int | None = option(100, "passes over the training videos", range="[1,1000000000]")
    num_iters: int | None = option(None, "total steps, instead of --num_epochs", range="[1,1000000000]")

    def steps_per_epoch(self, num_videos: int) -> int:
        """Of training on so many videos; 0 where --drop_last leaves out the only batch, which is not full."""
        return num_videos // self.batch_size if self.drop_last else -(-num_videos // self.batch_size)

    def total_steps(self, steps_per_epoch: int) -> int:
        return self.num_iters or (self.num_epochs or 0) * steps_per_epoch

    def lr_at(self, step: int, total_steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.lr_schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * step / total_steps)) / 2


@dataclass(frozen=True)
class LocalizationOptions:
    """The way from sequences to action instances (docs/method.md, section 5)."""

    scale: int = option(24, "points per snippet that sequences are upsampled to", range="[1,10000]")
    class_th: float = option(0.25, "class score at or above which a class is predicted; the best class always is", range="[0,1]")
    beta: float = option(0.35, "weight of the top-k class logits against the second-order ones in the class score", range="[0,1]")
    proposal_th: str = option("0.1:0.9:0.1", "thresholds of the proposals, first:last:step", parse=parse_grid)
    outer_margin: float = option(0.2, "width of the outer region on either side, as a share of the proposal's length", range="[0,1000]")
    gamma: float = option(0.2, "weight of the class score in a proposal's score", range="[0,1000000]")
    soft_nms: bool = option(True, "soft NMS: decay removed proposals instead of dropping them")
    nms_alpha: float = option(0.3, "width a of soft NMS's decay exp(-tIoU^2 / a)", range="[1e-6,1000000]")
    nms_thresh: float = option(0.4, "tIoU above which a better proposal removes another", range="[0,1]")
    nms_offset: float = option(1.0, "added to every length in the tIoU of NMS, seconds", range="[0,1000000]")
    clip_detections: bool = option(True, "cut detections at 0 and at the video's duration, where the ground truth states one; off: as published")
    min_score: float | None = option(None, "detections with a lower score are dropped after NMS; a score is a contrast of inside to outside, plus gamma times the class score, so it may be near 0 or negative", range="[-1000000,1000000]", shown="all are kept")
    top: int | None = option(None, "detections kept per video after NMS, the best ones", range="[1,1000000000]", shown="all are kept")

    @property
    def thresholds(self) -> tuple[float, ...]:
        return parse_grid(self.proposal_th)


@dataclass(frozen=True)
class EvaluationOptions:
    """When the test split is evaluated, at which tIoUs, and which evaluation's model is kept."""

    detection_inf_step: int = option(10, "steps between evaluations on the test split", range="[1,1000000000]")
    eval_from_epoch: int = option(2, "first epoch, counted from 1, with evaluations; the last step always has one", range="[1,1000000000]")
    test_batch_size: int = option(32, "videos per forward pass in test", range="[1,1000000]")
    tious: str = option("0.1:0.7:0.1", "tIoU thresholds of the mAP, first:last:step", parse=parse_grid)
    average_tious: tuple[str, ...] = option(("0.1:0.5", "0.1:0.7"), "ranges of tIoU that the mAP is averaged over; the last one chooses the best model", parse=parse_span)

    select: str = option("test", "evaluation whose model best.pt keeps. test: of the best average mAP on the test split, as papers report it; last: the last one; val: of the least video classification loss on training videos that are held out", choices=tuple(SELECTIONS))
    val_share: float = option(0.2, "share of the training videos that --select val holds out; every class keeps one to train on", range="(0,1)")

    @property
    def tiou_grid(self) -> tuple[float, ...]:
        return parse_grid(self.tious)
# fmt: on


@dataclass(frozen=True)
class Options:
    """The resolved options of a run, in groups. Flags are flat: their names are unique across the groups."""

    data: DataOptions = group("data", DataOptions)
    run: RunOptions = group("run", RunOptions)
    model: ModelOptions = group("model", ModelOptions)
    fusion: FusionOptions = group("combined sequence", FusionOptions)
    losses: LossOptions = group("losses", LossOptions)
    actionness: ActionnessOptions = group("actionness learning", ActionnessOptions)
    self_training: SelfTrainingOptions = group("self-training", SelfTrainingOptions)
    ablation: AblationOptions = group("ablation", AblationOptions)
    optimisation: OptimisationOptions = group("optimisation", OptimisationOptions)
    localization: LocalizationOptions = group("localization", LocalizationOptions)
    evaluation: EvaluationOptions = group("evaluation", EvaluationOptions)

    @property
    def has_teacher(self) -> bool:
        """Whether training keeps a running average of the weights, which teaches actionness."""
        return self.actionness.teacher_decay > 0 and self.ablation.actionness


# What other programs of the field call a flag: "did you mean" knows them.
_HABITS: Mapping[str, str] = MappingProxyType(
    {
        "num_epochs": "epochs epoch n_epochs max_epoch max_epochs train_epochs total_epochs",
        "num_iters": "iters iter iterations steps num_steps n_steps max_steps max_iter max_iters num_iterations",
        "batch_size": "bs batch train_batch_size train_bs mini_batch_size",
        "test_batch_size": "val_batch_size eval_batch_size test_bs inference_batch_size",
        "lr": "learning_rate lr_rate learn_rate base_lr init_lr",
        "weight_decay": "wd decay l2",
        "device": "gpu gpus gpu_id gpu_ids cuda device_id use_gpu cpu",
        "num_workers": "workers n_workers worker nworkers",
        "eval_workers": "test_workers val_workers num_eval_workers",
        "threads": "num_threads n_threads cpu_threads cpus",
        "products": "mkl blas onednn mkldnn matmul gemm",
        "deterministic": "determinism reproducible cudnn_deterministic use_deterministic_algorithms",
        "seed": "manual_seed random_seed rng_seed",
        "data_path": "data data_dir data_root dataset_path dataset_dir dataset_root root path feature_path features input",
        "dataset": "dataset_name data_name config preset",
        "ground_truth": "gt gt_path gt_file annotation annotations annotation_path ann_file labels json",
        "output_dir": "output out_dir save_dir save_path log_dir work_dir result_dir results output_path",
        "exp_name": "name exp experiment experiment_name run_name run model_name id",
        "model_file": "checkpoint ckpt weights pretrained pretrained_ckpt model model_path load load_model ckpt_path init",
        "inference_only": "test eval evaluate test_only eval_only inference infer do_test mode",
        "resume": "continue resume_from auto_resume continue_training",
        "overwrite": "force overwrite_output",
        "num_segments": "t segments max_seqlen max_seq_len seq_len num_snippets snippets temporal_length feature_length max_len",
        "feature_size": "feature_dim feat_dim feat_size input_dim in_channels input_size dim feature_channels channels",
        "hidden_size": "hidden hidden_dim hid_dim embed_dim embedding_dim hidden_channels",
        "modal": "modality modalities stream streams feature_type",
        "snippet_frames": "frames clip_length clip_len chunk_size num_frames",
        "snippet_stride": "stride feat_stride feature_stride frame_stride clip_stride",
        "fps": "frame_rate framerate sample_fps feature_fps",
        "dropout": "dropout_ratio drop drop_rate dropout_rate dropout_prob",
        "precision": "fp16 bf16 amp half mixed_precision dtype",
        "select": "selection model_selection select_by monitor best_metric early_stopping",
        "val_share": "val_ratio val_split val_fraction val_size validation_split validation_share holdout",
        "detection_inf_step": "interval eval_interval test_interval eval_freq test_freq val_interval eval_step eval_every",
        "save_epochs": "save_interval save_freq save_every",
        "shard": "shards num_shards shard_id part",
        "plot": "draw visualize visualise picture figure",
        "video_dir": "videos video_path video_root",
        "log_steps": "log_interval print_freq log_freq log_every",
        "nms_thresh": "nms_threshold nms iou_threshold",
        "class_th": "cls_thresh class_thresh class_threshold cls_threshold cls_thr",
        "proposal_th": "act_thresh act_thresholds proposal_thresh thresholds act_thresh_cas",
        "tious": "tiou iou ious iou_thresholds tiou_thresholds",
        "skip_unusable": "skip skip_missing ignore_missing allow_missing",
        "check_data": "check validate verify dry_run",
        "mask_momentum": "momentum",
    }
)
ALIASES: Mapping[str, str] = {alias: name for name, aliases in _HABITS.items() for alias in aliases.split()}

# What --help says of each flag beside its default.
_SET_BY: Mapping[str, Mapping[str, Any]] = {
    **PRESETS,
    **{f"--recipe {name}": values for name, values in RECIPES.items()},
    f"--recipe {STABLE}": {**RECIPES[STABLE], **dict.fromkeys(FROM_DATA, "from the data")},
}
FLAGS = FlagTable(Options, _SET_BY, ALIASES)

# Flags that concern a single call of the program: a later call does not inherit an experiment's values.
CALL_FLAGS = frozenset(
    {
        "exp_name",
        "output_dir",
        "resume",
        "overwrite",
        "inference_only",
        "check_data",
        "list",
        "predict",
        "shard",
        "report",
        "plot",
        "model_file",
        "classes",
        "out",
        "allow_pickle",
        "device",
        "threads",
        "products",
        "verbose",
        "rank_timeout",
    }
)
# Flags that do not affect what a run computes: --resume may change these too.
NEUTRAL_FLAGS = frozenset(
    {
        "data_path",
        "layout",
        "ground_truth",
        "cache",
        "num_workers",
        "save_epochs",
        "save_minutes",
        "keep_state",
        "eval_workers",
        "log_steps",
        "write_report",
        "video_dir",
        "image_epochs",
    }
)
# Flags that may move the last bits of what a run computes: --resume may change them, and says so.
LAST_BIT_FLAGS = frozenset({"test_batch_size", "deterministic", "compile", "cuda_graph", "threads", "products"})
# Flags that say how long a run is: --resume may raise the one that the run was started with.
LENGTH_FLAGS = frozenset({"num_epochs", "num_iters"})


EXAMPLES = (
    ("--dataset demo", "the built-in demo set: does everything work here?"),
    ("--check_data --data_path DATA", "what is wrong with a set, before training on it"),
    ("--data_path DATA --recipe auto --exp_name first", "train and evaluate, with numbers that fit the data"),
    ("--resume --exp_name first", "go on after an interruption"),
    ("--predict new_video.npy --model_file output/first/best.pt", "find the actions in videos without labels"),
    ("--report output/first output/second", "compare two runs in one page"),
)
FIRST_FLAGS = (
    *("data_path", "dataset", "exp_name", "num_segments", "feature_size"),
    *("fps", "num_epochs", "batch_size", "lr", "device"),
)


def parse_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """The flags that were typed, and only those. Raises InputError for an unknown flag or a value of the wrong type."""
    parser = Parser("main.py", "", FLAGS, opening=_opening)
    parser.add_options(FLAGS.names)
    parsed, rest = parser.parse_known_args(arguments)
    flags = vars(parsed)
    if "report" in flags:
        flags["report"] = tuple(flags["report"])
    if "predict" in flags:  # the features may stand anywhere among the flags
        flags["predict"] = (*flags["predict"], *(word for word in rest if not word.startswith("-")))
        rest = [word for word in rest if word.startswith("-")]
    parser.refuse(rest)
    _check_calls(flags)
    return flags


def _opening() -> str:
    """What --help says before it lists every flag."""
    about = (
        "SAL: weakly supervised temporal action localization. Trains on video-level labels, finds every action instance,\n"
        "and reports mAP."
    )
    examples = (f"  python main.py {flags}\n      {purpose}" for flags, purpose in EXAMPLES)
    first = (f"  --{name:14} {FLAGS.flags[name].help.partition(';')[0]}" for name in FIRST_FLAGS)
    parts = (about, "examples:", *examples, "\nflags to start with, explained below with all others:", *first)
    return "\n".join(parts)


def unresolved(flags: Mapping[str, Any]) -> Options:
    """The flags and the defaults alone: enough to find the experiment whose saved options `resolve` needs."""
    return FLAGS.build(flags)


def resolve(flags: Mapping[str, Any], saved: Mapping[str, Any] | None = None) -> Options:
    """Defaults, then the preset, the recipe, an experiment's saved options, the flags. Raises InputError naming the flag.

    With --recipe stable or auto, numbers that the data are to give (data_tools/recipe.py) are still the defaults, unless `saved`
    has them. An experiment keeps its recipe, as it was: it has every number that the recipe set.
    """
    saved = {name: value for name, value in (saved or {}).items() if name in FLAGS.flags.keys() - CALL_FLAGS}
    dataset = flags.get("dataset", saved.get("dataset", DataOptions.dataset))
    if dataset not in PRESETS:
        raise InputError(f"--dataset {dataset}: must be one of {', '.join(PRESETS)}")
    recipe = _recipe_of(flags, saved)
    constants = {} if _is_experiment(saved) else RECIPES.get(recipe, {})
    merged = {**PRESETS[dataset], **constants, **saved, **flags, "recipe": recipe}
    for name, other in (("num_epochs", "num_iters"), ("num_iters", "num_epochs")):
        if name in flags:
            merged[other] = None
    if "average_tious" in merged:
        merged["average_tious"] = tuple(merged["average_tious"])
    options = FLAGS.build(merged)
    FLAGS.check(options)
    _check_together(options)
    t_is_known = recipe == PUBLISHED or bool(saved) or "num_segments" in flags
    if t_is_known and recipe != AUTO:  # of which not even the source of pseudo labels is known
        _check_topk(options)
    return options


def _is_experiment(saved: Mapping[str, Any]) -> bool:
    """Whether these are the options of an experiment, rather than nothing, or what a bare state dict tells."""
    return not saved.keys().isdisjoint({"dataset", "recipe"})


def _recipe_of(flags: Mapping[str, Any], saved: Mapping[str, Any]) -> str:
    """The recipe that is typed; of an experiment its own, which --recipe auto means, too. Raises InputError."""
    typed = flags.get("recipe")
    if not _is_experiment(saved):
        return PUBLISHED if typed is None or (typed == AUTO and saved) else str(typed)
    own = str(saved.get("recipe", PUBLISHED))  # an older version's file may lack it
    if typed not in (None, AUTO, own):
        raise InputError(
            f"--recipe {typed}: the model was trained with --recipe {own}, whose numbers it keeps; omit the flag"
        )
    return own


def from_plain(plain: Mapping[str, Any]) -> Options:
    """The options whose `as_plain` this is: resolved and checked already."""
    return FLAGS.build({name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()})


def check_saved(saved: Mapping[Any, Any]) -> None:
    """Raise InputError naming the first of a checkpoint's options that is unknown or no value of its flag."""
    for name, value in saved.items():
        if name not in FLAGS.flags:
            shown = repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
            raise InputError(f"its option {shown} is unknown to this version")
        if not fits(FLAGS.flags[name], value):
            shown = f"{value!r:.40}, " if isinstance(value, str | float) else ""
            raise InputError(f"its option {name} is {shown}of type {type(value).__name__}")
    try:
        resolve({}, saved)
    except InputError as error:
        raise InputError(f"its options are not valid: {error}") from None


def fits(flag: Flag, value: Any) -> bool:
    """Whether a plain value, of a file or a caller, is one of the kind that an option declares."""
    if flag.kind == tuple[str, ...]:
        texts = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
        return texts and len(value) >= min(len(flag.default), 1)
    kinds = typing.get_args(flag.kind) or (flag.kind,)
    return type(value) in kinds or (float in kinds and type(value) is int)


def check_unchanged(flags: Mapping[str, Any], saved: Mapping[str, Any]) -> None:
    """Raise InputError naming the flags whose value differs from that of the experiment to resume."""
    changed = []
    for name, value in flags.items():
        before = saved.get(name, FLAGS.flags[name].default)  # an older version's file may lack it
        same = list(value) == list(before or ()) if isinstance(value, list | tuple) else value == before
        longer = name in LENGTH_FLAGS and before is not None  # in the same unit; how much is for the trainer to check
        same = same or (name == "recipe" and value == AUTO)  # what it took then, it takes again
        if name not in CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS and not longer and not same:
            changed.append(f"--{name} is {value}, the experiment has {before}")
    if changed:
        raise InputError(f"--resume with changed options: {'; '.join(changed)}; omit them, or start another --exp_name")


def check_training(flags: Mapping[str, Any], options: Options) -> None:
    """Check what matters in training alone: these options, and that it reads the flags that were typed. Raises InputError."""
    if options.losses.w_self > 0 and options.data.short_videos == "keep":
        raise InputError(
            "--short_videos keep: proposals teach videos that are resampled to T; give --short_videos stretch, or --w_self 0"
        )
    own = options.actionness.pseudo_source
    for name, source in _READ_BY_SOURCE.items():
        if name in flags and source != own:
            of_recipe = (
                "pseudo_source" not in flags and RECIPES.get(options.data.recipe, {}).get("pseudo_source") == own
            )
            by = f", by --recipe {options.data.recipe}" if of_recipe else ""
            raise InputError(f"--{name} is only read with --pseudo_source {source}; here it is {own}{by}")
    if "mil_competition" in flags and options.losses.mil_rank != "cas":
        raise InputError(
            f"--mil_competition is only read with --mil_rank cas; here it is {options.losses.mil_rank}: give both"
        )
    for field in fields(SelfTrainingOptions):
        if field.name in flags and options.losses.w_self == 0:
            raise InputError(f"--{field.name} is only read with --w_self above 0; here it is 0")


def as_plain(options: Options) -> dict[str, Any]:
    """{flag name: value} for JSON and checkpoints."""
    plain = FLAGS.values(options)
    for name in ("data_path", "ground_truth", "init_from", "video_dir"):
        if plain[name]:
            plain[name] = os.path.abspath(plain[name])  # a later call may come from another folder
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


# Of each of these, one flag may be given.
_CONTRADICTIONS = (
    ("check_data", "predict", "inference_only", "resume", "report", "plot"),
    ("resume", "overwrite"),
    ("num_epochs", "num_iters"),
    ("predict", "overwrite"),
    ("predict", "data_path"),
    ("predict", "compile"),
    *((name, "overwrite") for name in ("report", "plot")),
    *((name, "init_from") for name in ("resume", "predict", "inference_only", "check_data", "report", "plot")),
    *((name, "model_file") for name in ("report", "plot")),
    ("report", "exp_name"),
)
# Flags that mean nothing alone, and those that they need one of.
_USED_WITH = {
    "model_file": ("inference_only", "predict"),
    "classes": ("inference_only", "predict", "init_from"),
    "out": ("predict", "report", "plot"),
    "shard": ("predict",),
    "list": ("check_data",),
}
# Flags that pseudo labels of one source alone read.
_READ_BY_SOURCE = {
    "pseudo_ratio": "actionness",
    "pseudo_extra": "actionness",
    "confidence_ratio": "actionness",
    "pseudo_band": "classes",
}
_INSTEAD = {"model_file": "; to continue a run give --resume, to start from its weights --init_from"}


def _check_calls(flags: Mapping[str, Any]) -> None:
    """Raise InputError when flags contradict each other."""
    if "predict" in flags and not flags["predict"]:
        raise InputError("--predict: name the features, files or folders: --predict FEATURES...")
    if flags.get("plot") == "":
        raise InputError("--plot: name a test video: --plot VIDEO")
    if "shard" in flags and flags.get("predict") and not flags.get("out"):
        raise InputError("--shard: needs --out DIR, the folder of all shares")
    for names in _CONTRADICTIONS:
        given = [name for name in names if _is_given(name, flags)]
        if len(given) > 1:
            raise InputError(f"--{given[0]} and --{given[1]} contradict each other; give one of them")
    for name, uses in _USED_WITH.items():
        if flags.get(name) and not any(_is_given(use, flags) for use in uses):
            raise InputError(
                f"--{name} is only read with {' or '.join(f'--{use}' for use in uses)}{_INSTEAD.get(name, '')}"
            )
    if "val_share" in flags and flags.get("select") != "val" and "resume" not in flags:
        raise InputError("--val_share is only read with --select val")


def _is_given(name: str, flags: Mapping[str, Any]) -> bool:
    """Whether a flag was typed and switches something on; --report does so without a RUN, too."""
    return bool(flags.get(name)) or (name == "report" and name in flags)


def _check_together(options: Options) -> None:
    """Check what a single option's range does not cover. Raises InputError."""
    for name in ("kernel_size", "actionness_kernel_size"):
        size = getattr(options.model, name)
        if size % 2 == 0:
            raise InputError(f"--{name} {size}: must be odd, so that the number of snippets stays the same")
    name = options.run.exp_name
    plain = pathlib.PurePath(name).name == name != ".." and name.isprintable() and not name.startswith("-")
    if not plain or len(os.fsencode(name)) > 255:
        raise InputError(
            f"--exp_name {name}: must be a plain folder name of at most 255 bytes that does not begin with '-'; "
            "--output_dir says where it goes"
        )
    fusion = options.fusion.weights
    used = ("cas", *(options.data.streams if options.ablation.actionness else ()))
    if sum(fusion[part] for part in used) < SMALLEST_SHARE:
        raise InputError(
            f"--fuse_cas, --fuse_rgb, --fuse_flow: at least one of those in use must be {SMALLEST_SHARE:g} or more"
        )
    for span in options.evaluation.average_tious:
        if not any(in_span(tiou, parse_span(span)) for tiou in options.evaluation.tiou_grid):
            raise InputError(f"--average_tious {span}: no threshold of --tious {options.evaluation.tious} lies there")


def _check_topk(options: Options) -> None:
    t, actionness = options.data.num_segments, options.actionness
    ratios = {"mil_ratio": options.fusion.mil_ratio, "bg_ratio": options.losses.bg_ratio}
    by_actionness = actionness.pseudo_source == "actionness"
    if by_actionness:
        ratios["confidence_ratio"] = actionness.confidence_ratio
    for name, ratio in ratios.items():
        if ratio > 0 and ratio * t < 1 - 1e-9:
            raise InputError(f"--num_segments {t}: too small for --{name} {ratio:g}, whose top-k would be empty")
    if by_actionness and actionness.label_count(t) > t:
        raise InputError(
            f"--num_segments {t}: too small for the pseudo labels' top-k, {topk_count(actionness.pseudo_ratio, t)} of "
            f"--pseudo_ratio and {actionness.pseudo_extra} of --pseudo_extra; raise it or lower these"
        )
