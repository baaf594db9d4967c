"""Data of the form that the sections of `tinygan explain` have, made by a real small GAN with `tg.grad`."""
from __future__ import annotations

import base64
from typing import Any

import numpy as np

import tinygan as tg
from tinygan import nn, ops
from tinygan.gans.costs import COSTS

KINDS = {"u8": np.uint8, "f16": np.float16, "f32": np.float32}


def packed(array: Any, kind: str) -> dict[str, Any]:
    array = np.ascontiguousarray(np.asarray(array).astype(KINDS[kind]))
    return {"shape": list(array.shape), "dtype": kind, "data": base64.b64encode(array.tobytes()).decode()}


def signal_record(gan: Any, z: Any, cost: str) -> dict[str, Any]:
    images = tg.Tensor(gan.generator(z).array, requires_grad=True)
    logits = gan.discriminator(images)
    (own,) = tg.grad(COSTS[cost].g_loss(logits, None), [images], retain_graph=True)
    norms, slopes = [], []
    for name in ("minimax", "non-saturating", "maximum-likelihood"):
        by_image, slope = tg.grad(COSTS[name].g_loss(logits, None), [images, logits], retain_graph=True)
        norms.append(np.linalg.norm(np.asarray(by_image).reshape(len(z), -1), axis=1))
        slopes.append(np.asarray(slope).ravel())
    g = np.asarray(own)
    scale = np.abs(g).reshape(len(z), -1).max(1)
    return {"images": np.clip((images.array + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8), "scale": scale,
            "gradient": g / np.maximum(scale, 1e-30).reshape(-1, 1, 1, 1), "logits": np.asarray(logits).ravel(), "norms": norms,
            "slopes": slopes}


def flow_record(gan: Any, real: Any, before: Any, after: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    z = gan.latent(len(real))
    for player, gradients in (("discriminator", gan.d_gradients(real, z)[1]), ("generator", gan.g_gradients(z)[1])):
        names = [name for name, _ in getattr(gan, player).named_parameters()]
        pairs = [(before[f"{player}.{name}"], after[f"{player}.{name}"]) for name in names]
        found[player] = {"layers": [f"{player}.{name}" for name in names],
                         "gradient_norm": [float(np.linalg.norm(np.asarray(g))) for g in gradients],
                         "update_ratio": [float(np.linalg.norm(b - a) / max(np.linalg.norm(a), 1e-30)) for a, b in pairs],
                         "weight_norm": [float(np.linalg.norm(a)) for a, _ in pairs]}
    return found


def activations(gan: Any, z: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    x = z
    for player in ("generator", "discriminator"):
        rows = found[player] = {"layers": [], "dead": [], "saturated": [], "std": []}
        for i, layer in enumerate(getattr(gan, player)):
            x = layer(x)
            a = np.asarray(x)
            if isinstance(layer, nn.LeakyReLU | nn.Tanh | nn.ReLU):
                rows["layers"].append(f"{player}.{i} {type(layer).__name__}")
                rows["dead"].append(float((a == 0).all(0).mean()))
                rows["saturated"].append(float((np.abs(a) > 0.97).mean()) if isinstance(layer, nn.Tanh) else 0.0)
                rows["std"].append(float(a.std()))
    return found


class Tape:
    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.tensors: list[Any] = []

    def add(self, op: str, layer: str, player: str, parents: list[int], tensor: Any, constant: bool = False) -> int:
        self.nodes.append({"id": len(self.nodes), "op": op, "layer": layer, "player": player, "parents": parents,
                           "shape": list(tensor.shape), "constant": constant, "visited": None, "gradient": None,
                           "formula": {"forward": "Y = X Wᵀ + b" if op == "dense" else f"y = {op}(x)",
                                       "vjp": "X̄ = Ȳ W,  W̄ = Ȳᵀ X" if op == "dense" else "x̄ = ȳ · slope(x)",
                                       "with_numbers": "x̄[0, 3] = ȳ[0, 3] · slope = 0.0123 · 0.2 = 0.00246"},
                           "file": "tinygan/ops/matmul.py", "line": 42})
        self.tensors.append(tensor)
        return len(self.nodes) - 1

    def network(self, network: Any, player: str, x: Any, parent: int, constant: bool = False) -> tuple[Any, int]:
        for i, layer in enumerate(network):
            x = layer(x)
            parent = self.add(type(layer).__name__.lower(), f"{player}.{i} {type(layer).__name__}", player, [parent], x, constant)
        return x, parent


def shown(array: Any) -> dict[str, Any]:
    a = np.asarray(array)
    if a.size == 1:
        return {"kind": "number", "value": float(a.ravel()[0])}
    if a.size <= 16:
        return {"kind": "small", "values": a.tolist()}
    if a.ndim == 4 and a.shape[1] in (1, 3):
        lo, hi = float(a.min()), float(a.max())
        return {"kind": "image", "images": packed((a - lo) / max(hi - lo, 1e-30) * 255, "u8"), "min": lo, "max": hi}
    counts, edges = np.histogram(a, 12)
    return {"kind": "summary", "mean": float(a.mean()), "std": float(a.std()), "min": float(a.min()), "max": float(a.max()),
            "histogram": {"counts": counts.tolist(), "edges": edges.tolist()}}


def a_round(gan: Any, real: Any, z: Any, of_d: bool) -> dict[str, Any]:
    tape = Tape()
    with tg.fusion(False):
        start = tape.add("z", "latent", "generator", [], tg.Tensor(z), of_d)
        if of_d:
            fake, at = tape.network(gan.generator, "generator", z, start, True)
            fake = tg.Tensor(np.asarray(fake))
            both = tg.Tensor(np.concatenate([real, np.asarray(fake)]), requires_grad=True)
            r = tape.add("x", "data", "data", [], tg.Tensor(real), True)
            at = tape.add("concatenate", "data", "discriminator", [r, at], both, True)
            out, at = tape.network(gan.discriminator, "discriminator", both, at)
            loss = ops.mean(ops.softplus(ops.mul(out, np.array([[-1.0]] * len(real) + [[1.0]] * len(z), np.float32))))
        else:
            zt = tg.Tensor(z, requires_grad=True)
            fake, at = tape.network(gan.generator, "generator", zt, start)
            out, at = tape.network(gan.discriminator, "discriminator", fake, at)
            loss = ops.mean(ops.softplus(ops.neg(out)))
        tape.add("mean softplus", "loss", "loss", [at], loss)
        live = [i for i, t in enumerate(tape.tensors) if t.node is not None and not tape.nodes[i]["constant"]]
        gradients = tg.grad(loss, [tape.tensors[i] for i in live], retain_graph=True)
    for order, (i, g) in enumerate(zip(reversed(live), reversed(gradients), strict=True)):
        tape.nodes[i]["visited"], tape.nodes[i]["gradient"] = order, shown(g)
    for node, tensor in zip(tape.nodes, tape.tensors, strict=True):
        node["value"] = shown(tensor)
    player = "discriminator" if of_d else "generator"
    leaves = [{"name": f"{p}.{name}", "player": p, "gets_gradient": p == player}
              for p in ("generator", "discriminator") for name, _ in getattr(gan, p).named_parameters()]
    return {"name": "update of D" if of_d else "update of G", "nodes": tape.nodes, "groups": [], "layout": {}, "leaves": leaves}


def ahead(gan: Any, real: Any, z: Any, n: int) -> dict[str, Any]:
    look = gan.look_ahead(real)
    fake = np.asarray(gan.generator(z))
    points, batch = [look.optimizer.pack()], look.d_batch(fake)
    for step in range(look.steps):
        points.append(look.advance_array(points[-1], batch, step))
    function = tg.fusion_as_function(gan.discriminator) if hasattr(tg, "fusion_as_function") else None
    from tinygan.fusion import as_function
    function = as_function(gan.discriminator)
    logits = []
    for point in points:
        network = function([tg.Tensor(p) for p in look.parameters(point)])
        logits.append(np.asarray(network(fake)).ravel()[:n])
    images = tg.Tensor(fake, requires_grad=True)
    last = function([tg.Tensor(p) for p in look.parameters(points[-1])])
    (without,) = tg.grad(gan.g_loss(last(images)), [images])
    _, with_ = look.rematerialized(fake)
    return {"k": list(range(look.steps + 1)), "surface": None, "limits": None, "logits": packed(logits, "f32"),
            "points": packed(np.clip((fake[:n] + 1) * 127.5, 0, 255), "u8"), "gradient_with": packed(with_[:n], "f32"),
            "gradient_without": packed(np.asarray(without)[:n], "f32"),
            "text": "K updates ahead, the discriminator rejects the same images more firmly.", "alt": "Logits by k."}


def coupling(gan: Any, z: Any) -> dict[str, Any]:
    images = tg.Tensor(gan.generator(z).array, requires_grad=True)
    n = len(z)
    matrix = []
    for i in range(n):
        (g,) = tg.grad(ops.sum(gan.discriminator(images)[i:i + 1]), [images])
        matrix.append(np.linalg.norm(np.asarray(g).reshape(n, -1), axis=1))
    without = np.diag(np.diag(np.array(matrix)))
    return {"matrix": packed(matrix, "f32"), "without": packed(without, "f32"),
            "images": packed(np.clip((images.array + 1) * 127.5, 0, 255), "u8"),
            "text": "Off the diagonal stands what each image hears of the others.", "alt": "A matrix."}


def sections(gan: Any, batches: Any, steps: int, batch: int, per_epoch: int, extra: dict[str, Any]) -> dict[str, Any]:
    keep = {0, *(2**i for i in range(20)), *range(per_epoch, steps + 1, per_epoch), steps}
    z = np.asarray(gan.latent(16))
    signal: list[dict[str, Any]] = []
    flows: list[dict[str, Any]] = []
    acts: list[dict[str, Any]] = []
    at = []
    for step in range(steps + 1):
        real = batches(batch * gan.d_steps)
        if step in keep:
            at.append(step)
            signal.append(signal_record(gan, z, gan.cost))
            acts.append(activations(gan, gan.latent(64)))
            before = {k: np.array(v) for k, v in gan.state_dict().items()}
        gan.step(real)
        if step in keep:
            flows.append(flow_record(gan, real[:batch], before, {k: np.array(v) for k, v in gan.state_dict().items()}))
    stack = {name: np.stack([np.array(r[name]) for r in signal]) for name in signal[0]}
    epochs = [s / per_epoch for s in at]
    players = {p: {k: (flows[0][p][k] if k == "layers" else [f[p][k] for f in flows]) for k in flows[0][p]} for p in flows[0]}
    activity = {p: {k: (acts[0][p][k] if k == "layers" else [f[p][k] for f in acts]) for k in acts[0][p]} for p in acts[0]}
    found = {
        "signal": {"steps": at, "epochs": epochs, "cost": gan.cost, "coupled": False, "images": packed(stack["images"], "u8"),
                   "gradient": packed(stack["gradient"], "f16"), "scale": packed(stack["scale"], "f32"), "logits": packed(stack["logits"], "f32"),
                   "costs": ["minimax", "non-saturating", "maximum-likelihood"], "norms": packed(stack["norms"], "f32"),
                   "slopes": packed(stack["slopes"], "f32"),
                   "text": "After the last step the discriminator gives these 16 images a mean logit of -2.1. The minimax cost would pass on 0.11 of the gradient, the non-saturating cost passes on 0.89.",
                   "alt": "16 samples with their gradients."},
        "flow": {"steps": at, "epochs": epochs, "players": players, "activations": activity,
                 "findings": [{"layer": "generator.7", "player": "generator", "what": "saturated", "since_epoch": 1, "sentence": "generator.7 Tanh: 83 % of its outputs are beyond 0.97 in magnitude since epoch 1."}],
                 "text": "The gradients of the generator's first layer are 40 times smaller than those of its last.", "alt": "Norms by layer."},
        "tape": {"rounds": [a_round(gan, real[:2], z[:2], True), a_round(gan, real[:2], z[:2], False)], "text": "The generator's update goes back through the discriminator and fills none of its 6 arrays of weights.", "alt": "The graph of a round."},
        "ahead": {"absent": "This run does not unroll. A run of tinygan train unrolled shows it."},
        "coupling": {"absent": "The discriminator sees each image alone. A run of tinygan train minibatch shows it."},
    }
    for name, build in extra.items():
        found[name] = build(gan, z)
    return found
