"""Reads the event files of runs with TensorBoard's own readers: the Python one, and the server that the web page uses.

Usage: read_events.py RUNS, a folder with the runs that `.ci/run tensorboard` trains. Prints what was read; the first
thing that is wrong ends it with an error.
"""

import io, json, math, pathlib, sys, time, urllib.parse, urllib.request

import numpy as np
from PIL import Image
from tensorboard import default, program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util.tensor_util import make_ndarray

runs = pathlib.Path(sys.argv[1])
EVERYTHING = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0, "graph": 1}


def accumulated(run):
    """All that TensorBoard's Python reader makes of a run."""
    reader = EventAccumulator(str(runs / run), size_guidance=EVERYTHING)
    reader.Reload()
    return reader


def series(run):
    reader = accumulated(run)
    return {
        tag: [(event.step, make_ndarray(event.tensor_proto)) for event in reader.Tensors(tag)]
        for tag in reader.Tags()["tensors"]
        # These have times in them.
        if not tag.startswith("_hparams_")
    }


def assert_equal_runs(one, other):
    left, right = series(one), series(other)
    assert left.keys() == right.keys(), left.keys() ^ right.keys()
    for tag, values in left.items():
        assert [step for step, _ in values] == [step for step, _ in right[tag]], (tag, values, right[tag])
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(values, right[tag])), tag
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), f"{tag} of {one} has a step twice: {steps}"
    print(f"{one} and {other}: {len(left)} series are equal, {sum(map(len, left.values()))} points")


assert_equal_runs("whole", "killed")

# Histograms count every weight; images are pictures; the norms of the layers make up that of the whole gradient.
whole = series("whole")
manifest = json.loads((runs / "whole" / "manifest.json").read_text())
weights = {tag: values for tag, values in whole.items() if tag.startswith("weights/")}
counted = sum(values[-1][1][:, 2].sum() for values in weights.values())
assert counted == manifest["parameters"], (counted, manifest["parameters"])
assert all(values[-1][1].shape == (30, 3) for values in weights.values())
for index, (step, total) in enumerate(whole["gradient_norm"]):
    layers = [values[index] for tag, values in whole.items() if tag.startswith("weight_gradient_norm/")]
    assert all(layer_step == step for layer_step, _ in layers)
    norm = math.sqrt(sum(float(value) ** 2 for _, value in layers))
    assert abs(norm / float(total) - 1) < 1e-5, (step, norm, total)
for tag in ["samples/0", "confusion_matrix/val"]:
    width, height, png = whole[tag][-1][1]
    assert Image.open(io.BytesIO(png)).size == (int(width), int(height)), tag
print(f"whole: {counted:.0f} weights in {len(weights)} histograms, {len(whole['gradient_norm'])} gradients")

# The graph has the layers' names, and shapes on its edges.
graph = GraphDef()
graph.ParseFromString(accumulated("whole").Graph().SerializeToString())
nodes = {node.name: node for node in graph.node}
assert {"image", "patch_embed/proj", "blocks/0/attn/qkv", "head", "loss"} <= nodes.keys(), nodes.keys()
assert all(source in nodes for node in graph.node for source in node.input)
shape = nodes["patch_embed/proj"].attr["_output_shapes"].list.shape[0]
assert [axis.size for axis in shape.dim][0] == -1 and len(shape.dim) == 3, shape
print(f"whole: a graph of {len(nodes)} nodes")

# The web page's own server, with the data server that reads files by default.
board = program.TensorBoard(plugins=default.get_plugins())
board.configure(argv=["", "--logdir", str(runs), "--port", "0", "--bind_all"])
address = board.launch()
base = f"http://localhost:{urllib.parse.urlsplit(address).port}"


def get(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{base}/data/{path}", data, headers)) as answer:
        return json.load(answer)


names = sorted(path.name for path in runs.iterdir() if (path / "manifest.json").exists())
for _ in range(120):
    if sorted(get("runs")) == names and all("val_acc" in tags for tags in get("plugin/scalars/tags").values()):
        break
    time.sleep(0.5)
tags = get("plugin/scalars/tags")
assert sorted(tags) == names, (tags.keys(), names)
for plugin, tag in [("histograms", "weights/head.weight"), ("images", "confusion_matrix/val")]:
    found = get(f"plugin/{plugin}/tags")
    assert all(tag in found.get(run, []) for run in ["whole", "killed", "cnn"] if run != "cnn" or plugin == "images"), found
points = get("plugin/scalars/scalars?" + urllib.parse.urlencode({"tag": "val_acc", "run": "killed"}))
assert [step for _, step, _ in points] == [step for step, _ in whole["val_acc"]], points
assert get("plugin/graphs/info")["whole"]["run_graph"] is True

experiment = get("plugin/hparams/experiment", {"experimentName": ""})
info = {one["name"]: one for one in experiment["hparamInfos"]}
assert {"model", "train.lr", "model.depth", "model.layers"} <= info.keys()
columns = [{"hparam": name, "includeInResult": True} for name in info]
metrics = [one["name"] for one in experiment["metricInfos"]]
request = {
    "experimentName": "",
    "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
    "colParams": columns + [{"metric": metric, "includeInResult": True} for metric in metrics],
    "startIndex": 0,
    "sliceSize": 100,
}
table = get("plugin/hparams/session_groups", request)
rows = {group["sessions"][0]["name"]: group for group in table["sessionGroups"]}
assert sorted(rows) == names, rows.keys()
assert rows["cnn"]["hparams"]["model.kind"] == "stack" and rows["whole"]["hparams"]["model.depth"] == 1
found = {one["name"]["tag"]: one["value"] for one in rows["exported"]["metricValues"]}
assert abs(found["test_acc"] - json.loads((runs / "exported/evaluation/test/report.json").read_text())["top1"]) < 1e-6
assert all(rows[run]["sessions"][0]["status"] == "STATUS_SUCCESS" for run in names), rows
print(f"a table of {len(rows)} runs with {len(info)} hyperparameters and {len(metrics)} metrics")
