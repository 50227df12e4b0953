"""A stand-in for main.py that trains nothing: python fake_main.py --exp_name=NAME --output_dir=DIR FLAGS...

It writes options.json and results.json as main.py does, the mAP made of the seed and --lr. FAKE_MAIN names a file of
{run's name: what it does instead}: "fail"; "die"; "wait" until it is asked to stop, and then save last.pt, which takes a
moment, and say there whether its parent has waited for that; "deaf", asked in vain. Each call adds a line to the file in
FAKE_CALLS.
"""

import json
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))

from options import as_plain, parse_flags, resolve
from utils.atomic import write_text

SAVING = 0.5  # seconds


def main(words):
    flags = parse_flags(words)
    options = resolve(flags)
    folder = pathlib.Path(options.run.output_dir) / options.run.exp_name
    does = json.loads(pathlib.Path(os.environ["FAKE_MAIN"]).read_text()).get(folder.name)
    with open(os.environ["FAKE_CALLS"], "a") as calls:
        call = {"name": folder.name, "resume": options.run.resume, "threads": flags.get("threads")}
        print(json.dumps({**call, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}), file=calls)
    folder.mkdir(parents=True, exist_ok=True)
    if does == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "fail":
        print("some progress")
        print(f"main.py: error: {folder.name} can't be made; do something else", file=sys.stderr)
        return 2
    plain = as_plain(options)
    (folder / "options.json").write_text(json.dumps(plain))
    if does in ("wait", "deaf"):
        parent = os.getppid()
        stop = (
            (lambda *_: (folder / "asked").touch())
            if does == "deaf"
            else (lambda *_: sys.exit(stopped(folder, parent)))
        )
        signal.signal(signal.SIGTERM, stop)
        write_text(folder / "waiting", str(os.getpid()))
        time.sleep(60)
    value = 0.3 + 0.01 * options.run.seed + 100 * options.optimisation.lr
    measures = {"mAP": {"0.5": value}, "average_mAP": {"0.5": value}, "video_accuracy": None, "per_class_AP": None}
    content = {name: {"step": 8, "epoch": 2, **measures} for name in ("best", "last")}
    content |= {"options": plain, "data": {"name": "set"}, "finished": True, "seconds": {"training": 2.0}}
    (folder / "results.json").write_text(json.dumps(content))
    return 0


def stopped(folder, parent):
    time.sleep(SAVING)
    write_text(folder / "last.pt", "waited for" if os.getppid() == parent else "left alone")
    print("main.py: interrupted at step 3 of 8", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
