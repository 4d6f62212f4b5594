"""Makes the run folders that `old_runs.rs` reads, with an earlier version of the program.

    python3 make_old_runs.py PROGRAM FOLDER [RUN...]

trains tiny models with PROGRAM, the binary of an earlier commit, and stops in the middle of their second epoch. FOLDER is
named after that commit. Each run folder also gets `expected.json`: what that version measured on the validation split,
and the hash of the last weights after it had trained the run to its end.
"""

import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

COMMON = ["--limit-train=60", "--batch-size=20", "--epochs=2", "--max-steps=4", "--set=data.val_fraction=0.01"]
VIT = ["--set=model.embed_dim=8", "--set=model.depth=1", "--set=model.num_heads=2", "--set=model.patch_size=7"]
STACK = '--set=model.layers=["conv 5 s2", "batchnorm", "relu", "dropout 0.2", "globalpool", "linear classes"]'
RUNS = {
    "vit": ["--data=digits", *VIT, "--drop=0.1", "--hflip=0.5", "--model-ema-decay=0.9"],
    "stack": ["--data=digits", "--set=model.kind=stack", STACK, "--opt=sgd", "--lr=0.05"],
    "reader": ["--preset=read-digits", *VIT, "--set=model.patch_size=14", "--set=model.decoder_depth=1"],
}
# What neither evaluation nor resume reads: the older checkpoint, and weights that are also in the newer one.
UNUSED = [".lock", "state/1.json", "state/1.safetensors", "weights/last.safetensors"]


def tensors_sha256(path):
    """The hash of names and values that ledger.csv calls `tensors_sha256`."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__")
    sha256 = hashlib.sha256()
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        sha256.update(f"{name} {(end - start) // 4}\n".encode() + data[8 + length + start : 8 + length + end])
    return sha256.hexdigest()


def main():
    program, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    for name, arguments in [(name, RUNS[name]) for name in sys.argv[3:] or RUNS]:
        with tempfile.TemporaryDirectory() as folder:

            def run(*words):
                done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                return done.stdout

            run("train", *COMMON, *arguments, f"--name={name}", "--threads=1")
            stopped = target / name
            shutil.rmtree(stopped, ignore_errors=True)
            shutil.copytree(Path(folder, "runs", name), stopped)
            for unused in UNUSED:
                (stopped / unused).unlink(missing_ok=True)
            manifest = stopped / "manifest.json"
            manifest.write_text(manifest.read_text().replace(str(program), "vitreous"))
            evaluated = json.loads(run("evaluate", f"runs/{name}", "--split=val", "--json"))
            run("train", f"--resume=runs/{name}", "--set=train.max_steps=")
            hash_at_end = tensors_sha256(Path(folder, "runs", name, "weights", "last.safetensors"))
            names = ["images", "loss", "top1", "strips", "exact_match", "digit_accuracy"]
            measured = {name: evaluated[name] for name in names if name in evaluated}
            expected = {"measured": measured, "tensors_sha256": hash_at_end}
            (stopped / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
