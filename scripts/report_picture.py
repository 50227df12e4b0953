"""A picture of a report, as the README shows it: its explorer in Chromium, as PNG.

    python scripts/report_picture.py output/demo/report.html --out docs/report.png [--hash '#explore?video=3'] [--dark]

Needs the packages of requirements-dev.txt, and chromium on the PATH. Exit code 1 when the file would be larger than --most_kB.
"""

import argparse
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def picture(report: pathlib.Path, *, hash: str, dark: bool, width: int, height: int) -> bytes:
    """PNG of what a window of this size shows."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        tab = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        tab.goto(report.resolve().as_uri() + hash)
        tab.wait_for_selector("html[data-ready=true]", state="attached")
        tab.wait_for_timeout(1500)  # charts above move the explorer while they are drawn
        tab.evaluate("(id) => document.querySelector(id).scrollIntoView()", hash.split("?")[0])
        tab.wait_for_timeout(300)
        taken = tab.screenshot(type="png")
        browser.close()
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--hash", default="#explore", help="the state of the explorer, as in the page's address")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--width", type=int, default=1320)
    parser.add_argument("--height", type=int, default=880)
    parser.add_argument("--most_kB", type=int, default=400)
    args = parser.parse_args()
    data = picture(args.report, hash=args.hash, dark=args.dark, width=args.width, height=args.height)
    if len(data) > 1000 * args.most_kB:
        print(f"{args.out}: not written, {len(data) / 1000:.0f} kB; take a smaller window", file=sys.stderr)
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
