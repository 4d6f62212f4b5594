"""Makes the golden files of the optimizers.

    python3 make_optimizers.py

Everything is computed in f64 with numpy alone, from the papers' formulas:

- AdamW: Loshchilov and Hutter 2019, algorithm 2.
- Lion: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", program 1.
- Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, for the weights of hidden layers, with the update
  scaled by 0.2 * sqrt(max(rows, columns)) as in Liu et al. 2025, "Muon is Scalable for LLM Training", section 2.2; AdamW
  for all other parameters.

adamw.txt, lion.txt and muon.txt: the weights of a small network after five steps. The network is linear 5-13, tanh,
linear 13-11, tanh, linear 11-17, tanh, linear 17-3, softmax cross-entropy. Each file holds the values of all parameters
in the order fc1.weight, fc1.bias, fc2.weight, ..., one a line.

lion_update.txt: one update; a line holds value, gradient, momentum, and the value and the momentum after the update.

orthogonalized.txt: ill-conditioned matrices before and after Muon's orthogonalization; a line holds one value of both.
"""

from pathlib import Path

import numpy as np

SIZES = [5, 13, 11, 17, 3]
IMAGES, STEPS, LEARNING_RATE = 23, 5, 0.01
WEIGHT_DECAY, MAX_NORM = 0.1, 0.5


def draws(stream, count):
    """Numbers in [-1, 1) that any language computes alike."""
    numbers = (np.arange(count) * 7919 + stream * 104729) % 2003
    return (numbers / 2003 * 2 - 1).astype(np.float32).astype(np.float64)


def initial_parameters():
    parameters = []
    for layer, (inputs, outputs) in enumerate(zip(SIZES, SIZES[1:])):
        parameters.append(draws(2 * layer, outputs * inputs).reshape(outputs, inputs))
        parameters.append(draws(2 * layer + 1, outputs))
    return parameters


def gradients(parameters):
    """Gradients of the mean cross-entropy, clipped to the max norm."""
    weights, biases = parameters[0::2], parameters[1::2]
    values = [draws(100, IMAGES * SIZES[0]).reshape(IMAGES, SIZES[0])]
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        product = values[-1] @ weight.T + bias
        values.append(product if layer + 1 == len(weights) else np.tanh(product))
    logits = values.pop()
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    delta = (probabilities - np.eye(SIZES[-1])[np.arange(IMAGES) % 3]) / IMAGES
    found = []
    for weight, x in zip(weights[::-1], values[::-1]):
        found = [delta.T @ x, delta.sum(axis=0)] + found
        delta = (delta @ weight) * (1 - x * x)
    norm = np.sqrt(sum((g * g).sum() for g in found))
    return [g * min(1.0, MAX_NORM / (norm + 1e-6)) for g in found]


class AdamW:
    betas, eps = (0.9, 0.999), 1e-8

    def __init__(self, parameters):
        self.first = [np.zeros_like(p) for p in parameters]
        self.second = [np.zeros_like(p) for p in parameters]

    def step(self, parameters, grads, lr, t):
        for i, (p, g) in enumerate(zip(parameters, grads)):
            parameters[i] = self.step_one(i, p, g, lr, t)

    def step_one(self, i, p, g, lr, t):
        b1, b2 = self.betas
        self.first[i] = b1 * self.first[i] + (1 - b1) * g
        self.second[i] = b2 * self.second[i] + (1 - b2) * g * g
        corrected = self.first[i] / (1 - b1**t), self.second[i] / (1 - b2**t)
        return p * (1 - lr * WEIGHT_DECAY) - lr * corrected[0] / (np.sqrt(corrected[1]) + self.eps)


class Lion:
    betas = (0.9, 0.99)
    decay = WEIGHT_DECAY

    def __init__(self, parameters):
        self.momentum = [np.zeros_like(p) for p in parameters]

    def step(self, parameters, grads, lr, _):
        b1, b2 = self.betas
        for i, g in enumerate(grads):
            update = np.sign(b1 * self.momentum[i] + (1 - b1) * g)
            parameters[i] = parameters[i] - lr * (update + self.decay * parameters[i])
            self.momentum[i] = b2 * self.momentum[i] + (1 - b2) * g


def orthogonalized(g):
    """Five Newton-Schulz iterations: the singular values come near 1, the singular vectors stay."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g / (np.sqrt((g * g).sum()) + 1e-7)
    if x.shape[0] > x.shape[1]:
        return orthogonalized(g.T).T
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(AdamW):
    momentum = 0.95
    hidden = (2, 4)  # The weights of the second and third layer.

    def __init__(self, parameters):
        super().__init__(parameters)
        self.buffer = [np.zeros_like(p) for p in parameters]

    def step(self, parameters, grads, lr, t):
        for i, (p, g) in enumerate(zip(parameters, grads)):
            if i not in self.hidden:
                parameters[i] = self.step_one(i, p, g, lr, t)
                continue
            self.buffer[i] = self.momentum * self.buffer[i] + (1 - self.momentum) * g
            nesterov = self.momentum * self.buffer[i] + (1 - self.momentum) * g
            scale = 0.2 * np.sqrt(max(p.shape))
            parameters[i] = p * (1 - lr * WEIGHT_DECAY) - lr * scale * orthogonalized(nesterov)


def weights_after(rule):
    parameters = initial_parameters()
    optimizer = rule(parameters)
    for t in range(1, STEPS + 1):
        optimizer.step(parameters, gradients(parameters), LEARNING_RATE / t, t)
    return np.concatenate([p.ravel() for p in parameters])


def lion_update():
    """The betas are so different that the update has another sign for many values if they are swapped."""
    value, gradient, momentum = (draws(stream, 48) for stream in (1, 2, 3))
    gradient[5] = momentum[5] = 0.0  # The sign of 0 is 0.
    lion, values = Lion([value]), [value]
    lion.betas, lion.decay, lion.momentum = (0.3, 0.95), 0.2, [momentum]
    lion.step(values, [gradient], 0.03, 1)
    return np.stack([value, gradient, momentum, values[0], lion.momentum[0]], axis=1)


def ill_conditioned(stream, rows, columns):
    """A matrix with singular values from 1 to 0.01, divided by its norm."""
    side = min(rows, columns)
    left = np.linalg.qr(draws(stream, rows * side).reshape(rows, side))[0]
    right = np.linalg.qr(draws(stream + 1, columns * side).reshape(columns, side))[0]
    x = left * 0.01 ** (np.arange(side) / (side - 1)) @ right.T
    return (x / np.linalg.norm(x)).astype(np.float32).astype(np.float64)


def orthogonalizations():
    matrices = [ill_conditioned(stream, *size) for stream, size in enumerate([(3, 7), (7, 3), (11, 13)])]
    return np.concatenate([np.stack([x.ravel(), orthogonalized(x).ravel()], axis=1) for x in matrices])


if __name__ == "__main__":
    for name, rule in [("adamw", AdamW), ("lion", Lion), ("muon", Muon)]:
        text = "".join(f"{value:.9}\n" for value in weights_after(rule))
        (Path(__file__).parent / f"{name}.txt").write_text(text)
    for name, rows in [("lion_update", lion_update()), ("orthogonalized", orthogonalizations())]:
        text = "".join(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)
        (Path(__file__).parent / f"{name}.txt").write_text(text)
