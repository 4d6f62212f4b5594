"""The models of the golden files, written from their descriptions, with other operations than the Rust program has.

A model has `specs`, the shape, center and scale of each parameter by its name in the Rust graph, and `forward`, which
returns logits, intermediate outputs under the names of the Rust graph's nodes, and calls `margin` with numbers whose
sign decides something (before a ReLU, the lead of a window's largest value): near 0, roundings would decide it.
"""
import math

import torch
import torch.nn.functional as F

EPS = 1e-5


class Specs(dict):
    """Name -> (shape, center, scale) of each parameter, in the order that numbers them."""

    def linear(self, name, fan_in, fan_out, gain=3.0, shape=None):
        # Variance 1 / fan_in, so that scores, and with them query and key gradients, are not much smaller than the
        # values'.
        self[name + ".weight"] = (shape or [fan_out, fan_in], 0.0, round(math.sqrt(gain / fan_in), 4))
        self[name + ".bias"] = ([fan_out], 0.0, 0.1)

    def conv(self, name, channels, out, kernel, gain=3.0):
        self.linear(name, channels * kernel**2, out, gain, [out, channels, kernel, kernel])

    def norm(self, name, features):
        self[name + ".weight"] = ([features], 1.0, 0.1)
        self[name + ".bias"] = ([features], 0.0, 0.1)

    def token(self, name, *shape):
        self[name] = (list(shape), 0.0, 1.0)

    def batch_norm(self, name, channels):
        self.norm(name, channels)
        self[name + ".running_mean"] = ([channels], 0.0, 0.1)
        self[name + ".running_var"] = ([channels], 1.0, 0.1)


def norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], EPS)


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p[name + ".bias"])


def sine_cosine(positions, width, dtype):
    at = torch.arange(positions).double()[:, None] / 10000.0 ** (torch.arange(0, width, 2).double() / width)
    # The program's table is f32, as a model's weights are.
    return torch.stack([at.sin(), at.cos()], -1).flatten(1).float().to(dtype)


def ten_epochs(lr, step):
    """Cosine over ten epochs of one step, the first of which warms up."""
    return lr * 0.5 * (1 + math.cos(math.pi * max(step - 1, 0) / 9))


def is_statistic(name):
    """Whether a parameter follows what is seen, and is not trained."""
    return name.endswith((".running_mean", ".running_var"))


def own(p, prefix):
    return {name.removeprefix(prefix): value for name, value in p.items() if name.startswith(prefix)}


class Model:
    gradient_places, classes = 64, 10
    # Nearer to 0 than some roundings of f32, a number's sign would be a matter of luck; without kinks nothing is.
    kink = 5e-6
    # The golden value of the tolerance, as expected.rs has it.
    tolerance = 5e-6
    # The same for some gradients, by name.
    looser = {}

    # A gradient this much smaller than the model's largest is 0 except for rounding errors, such as that of a key's bias.
    floor = 1e-8

    # Largest norm of the gradient.
    clip = None

    def optimizer(self, params):
        return torch.optim.Adam(params, lr=1e-3, foreach=False)

    def learning_rate(self, step):
        return None

    def labels(self):
        return torch.tensor([(7 * i + 3) % self.classes for i in range(self.batch)])

    def infer(self, p, images):
        """`forward` of a model that does not learn."""
        return self.forward(p, images, lambda x: None)


# ---- vision transformers ----

class Vit(Model):
    """Patches by a convolution, class token, learned positions, blocks, a head on the class token."""
    gradient_places = 256
    width, hidden, depth, heads, patch, positions = 64, 128, 3, 4, 4, 65
    final_norm = False

    def embed(self, out):
        out.conv("patch_embed.proj", self.image[0], self.width, self.patch)

    def specs(self):
        out, width = Specs(), self.width
        self.embed(out)
        out.token("cls_token", 1, 1, width)
        out.token("pos_embed", 1, self.positions, width)
        for i in range(self.depth):
            for name, features in self.block_norms.items():
                out.norm(f"blocks.{i}.{name}", features)
            out.linear(f"blocks.{i}.attn.qkv", width, 3 * width)
            out.linear(f"blocks.{i}.attn.proj", width, width)
            out.linear(f"blocks.{i}.mlp.fc1", width, self.hidden)
            out.linear(f"blocks.{i}.mlp.fc2", self.hidden, width)
        if self.final_norm:
            out.norm("norm", width)
        out.linear("head", width, 10)
        return out

    def tokens(self, p, images):
        weight, bias = p["patch_embed.proj.weight"], p["patch_embed.proj.bias"]
        return F.conv2d(images, weight, bias, stride=self.patch).flatten(2).transpose(1, 2)

    def forward(self, p, images, margin):
        outputs = {}
        x = outputs["patch_embed.proj"] = self.tokens(p, images)
        x = torch.cat([p["cls_token"].expand(len(x), 1, -1), x], 1)
        x = outputs["pos_embed"] = x + p["pos_embed"][:, :x.shape[1]]
        for i in range(self.depth):
            x = outputs[f"blocks.{i}.add2"] = self.block(own(p, f"blocks.{i}."), x, margin)
        x = x[:, 0]
        return linear(p, "head", norm(p, "norm", x) if self.final_norm else x), outputs


class Mnist(Vit):
    """E6: one layer norm shared by both halves of a block, GELU, 65 positions of which 50 are used."""
    name, seed, batch, image = "mnist-vit", 8, 12, (1, 28, 28)
    block_norms = {"norm1": 64}
    final_norm = True
    kink = 0.0

    def optimizer(self, params):
        return torch.optim.AdamW(params, lr=3e-4, weight_decay=0.01, foreach=False)

    def block(self, p, x, margin):
        y = norm(p, "norm1", x).transpose(0, 1)  # [tokens, batch, width]
        y, _ = F.multi_head_attention_forward(
            y, y, y, 64, 4, p["attn.qkv.weight"], p["attn.qkv.bias"], None, None, False, 0.0, p["attn.proj.weight"],
            p["attn.proj.bias"], need_weights=False)
        x = x + y.transpose(0, 1)
        return x + linear(p, "mlp.fc2", F.gelu(linear(p, "mlp.fc1", norm(p, "norm1", x))))


class Stem(Mnist):
    """The same with a convolutional stem, as in Xiao et al. 2021. A step normalizes by its own images, whatever else by the
    statistics, and these follow the steps."""
    name, seed, batch = "mnist-vit-conv-stem", 1, 4
    kink, tolerance = Model.kink, 2e-5

    def specs(self):
        out = Specs()
        for at, (channels, width) in enumerate(((1, 32), (32, 64))):
            out[f"patch_embed.proj.{3 * at}.weight"] = ([width, channels, 3, 3], 0.0, round(math.sqrt(6.0 / (9 * channels)), 4))
            out.batch_norm(f"patch_embed.proj.{3 * at + 1}", width)
        out.conv("patch_embed.proj.6", 64, 64, 1)
        out.update((name, spec) for name, spec in super().specs().items() if not name.startswith("patch_embed"))
        return out

    def forward(self, p, images, margin, learns=True):
        self.learns, self.margin, self.stem = learns, margin, {}
        logits, outputs = super().forward(p, images, margin)
        del outputs["patch_embed.proj"]
        return logits, {**self.stem, **outputs}

    def tokens(self, p, x):
        for at in (0, 3):
            x = F.conv2d(x, p[f"patch_embed.proj.{at}.weight"], stride=2, padding=1)
            self.stem[f"patch_embed.proj.{at}"] = x.permute(0, 2, 3, 1)
            mean, var, weight, bias = (
                p[f"patch_embed.proj.{at + 1}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            # The program's momentum is f32.
            x = F.batch_norm(x, mean, var, weight, bias, self.learns, torch.tensor(0.1).item(), EPS)
            self.stem[f"patch_embed.proj.{at + 1}"] = x.permute(0, 2, 3, 1)
            self.margin(x)
            x = torch.relu(x)
        return F.conv2d(x, p["patch_embed.proj.6.weight"], p["patch_embed.proj.6.bias"]).flatten(2).transpose(1, 2)

    def infer(self, p, images):
        return self.forward(p, images, lambda x: None, learns=False)


class Cifar(Vit):
    """E3 with true patches: ReLU after each norm, and a norm before the MLP's own ReLU; no final norm."""
    name, seed, batch, image = "cifar-vit-64", 109, 10, (3, 32, 32)
    hidden = 256
    block_norms = {"norm1": 64, "norm2": 64, "mlp.norm": 256}

    def block(self, p, x, margin):
        def norm_relu(name, x):
            y = norm(p, name, x)
            margin(y)
            return torch.relu(y)

        q, k, v = linear(p, "attn.qkv", norm_relu("norm1", x)).chunk(3, -1)
        heads = []
        for h in range(4):
            columns = slice(16 * h, 16 * (h + 1))
            scores = q[..., columns] @ k[..., columns].transpose(1, 2) / math.sqrt(16)
            heads.append(torch.softmax(scores, -1) @ v[..., columns])
        x = x + linear(p, "attn.proj", torch.cat(heads, -1))
        y = linear(p, "mlp.fc1", norm_relu("norm2", x))
        return x + linear(p, "mlp.fc2", norm_relu("mlp.norm", y))


class Fashion(Vit):
    """E5: the usual block, a norm before each half and GELU; gradients are clipped."""
    name, seed, batch, image, gradient_places = "fashion-vit", 1, 8, (1, 28, 28), 64
    width, hidden, depth, heads, positions = 128, 256, 6, 8, 50
    block_norms = {"norm1": 128, "norm2": 128}
    final_norm = True
    kink, clip = 0.0, 1.0

    def optimizer(self, params):
        return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.05, foreach=False)

    def learning_rate(self, step):
        return ten_epochs(1e-3, step)

    def block(self, p, x, margin):
        q, k, v = linear(p, "attn.qkv", norm(p, "norm1", x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + linear(p, "attn.proj", y)
        return x + linear(p, "mlp.fc2", F.gelu(linear(p, "mlp.fc1", norm(p, "norm2", x))))


class Flat(Cifar):
    """The same with tokens of 48 numbers that follow each other in memory."""
    name, seed, batch, gradient_places = "cifar-vit-64-flat", 2, 4, 64

    def embed(self, out):
        out.linear("patch_embed.proj", 48, self.width)

    def tokens(self, p, images):
        return linear(p, "patch_embed.proj", images.reshape(len(images), 64, 48))


class PerHead(Model):
    """E1: heads that see their own channels, no output projection, a softmax before the loss's own."""
    batch, image, classes = 8, (3, 32, 32), 5
    decoder = False

    def optimizer(self, params):
        return torch.optim.Adam(params, lr=1e-4, foreach=False)

    def specs(self):
        out, width, own_width = Specs(), self.width, self.width // self.heads

        def project(name, count):
            scale = round(math.sqrt(3.0 / own_width), 4)
            out[name + ".weight"] = ([count, self.heads, own_width, own_width], 0.0, scale)
            out[name + ".bias"] = ([count, self.heads, own_width], 0.0, 0.1)

        def block(name, norms, crossed):
            for i in range(norms):
                out.norm(f"{name}.norm{i + 1}", width)
            project(f"{name}.attn.qkv", 3)
            if crossed:
                project(f"{name}.cross_attn.q", 1)
                project(f"{name}.cross_attn.kv", 2)
            out.linear(f"{name}.mlp.fc1", width, 4 * width)
            out.linear(f"{name}.mlp.fc2", 4 * width, width)

        out.conv("patch_embed.proj", 3, width, 4)
        out.token("cls_token", *([1, width] if self.decoder else [1, 1, width]))
        if self.learned:
            out.token("pos_embed", 1, 64 if self.decoder else 65, width)
        for i in range(self.depth):
            block(f"blocks.{i}", 2, False)
        if self.decoder:
            for i in range(self.depth):
                block(f"decoder.{i}", 3, True)
        out.linear("head", width, 5)
        return out

    def attention(self, q, k, v):
        """Of [batch, tokens, heads, channels of a head]."""
        # The program's factor is f32.
        scale = torch.tensor(float(self.width // self.heads)).sqrt().reciprocal().item()
        scores = scale * torch.einsum("bqhc,bkhc->bhqk", q, k)
        return torch.einsum("bhqk,bkhc->bqhc", torch.softmax(scores, -1), v).flatten(2)

    def project(self, p, name, x):
        x = x.unflatten(-1, (self.heads, -1))
        y = torch.einsum("bthi,nhoi->nbtho", x, p[name + ".weight"])
        return y + p[name + ".bias"][:, None, None]

    def mlp(self, p, x, margin):
        y = linear(p, "mlp.fc1", x)
        if self.activation is torch.relu:
            margin(y)
        return linear(p, "mlp.fc2", self.activation(y))

    def forward(self, p, images, margin):
        outputs = {}
        x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=4)
        x = x.flatten(2).transpose(1, 2)
        outputs["patch_embed.proj"] = x
        token = p["cls_token"].reshape(1, 1, -1).expand(len(x), -1, -1)
        if not self.decoder:
            x = torch.cat([token, x], 1)
        if self.learned:
            x = outputs["pos_embed"] = x + p["pos_embed"]
        else:
            x = x + sine_cosine(x.shape[1], self.width, x.dtype)
        for i in range(self.depth):
            own_p = own(p, f"blocks.{i}.")
            x = x + self.attention(*self.project(own_p, "attn.qkv", norm(own_p, "norm1", x)))
            x = outputs[f"blocks.{i}.add2"] = x + self.mlp(own_p, norm(own_p, "norm2", x), margin)
        if self.decoder:
            memory, x = x, token
            for i in range(self.depth):
                own_p = own(p, f"decoder.{i}.")
                x = x + self.attention(*self.project(own_p, "attn.qkv", norm(own_p, "norm1", x)))
                q, = self.project(own_p, "cross_attn.q", norm(own_p, "norm2", x))
                x = x + self.attention(q, *self.project(own_p, "cross_attn.kv", memory))
                x = outputs[f"decoder.{i}.add3"] = x + self.mlp(own_p, norm(own_p, "norm3", x), margin)
        return torch.softmax(linear(p, "head", x[:, 0]), -1), outputs


class Cosine(PerHead):
    name, seed = "cifar-vit-cosine-6b8h8d", 2
    width, heads, depth, learned, activation = 8, 8, 6, False, staticmethod(torch.relu)


class Learned(PerHead):
    name, seed = "cifar-vit-learned-4b6h12d-tanh", 19
    width, heads, depth, learned, activation = 12, 6, 4, True, staticmethod(torch.tanh)
    kink = 0.0


class Decoder(PerHead):
    name, seed = "cifar-vit-learned-4b6h12d-decoder", 23
    width, heads, depth, learned, activation = 12, 6, 4, True, staticmethod(torch.relu)
    decoder = True


# ---- stacks of layers ----

class Stack(Model):
    """Convolutions with ReLU, 2x2 max pools ("M"), E3's attention ("A"); then features, and a linear layer."""
    tolerance = 2e-5
    conv_gain, head_gain = 6.0, 3.0

    def specs(self):
        out, channels = Specs(), self.image[0]
        for i, layer in self.numbered():
            if layer == "A":
                for part in ("theta", "phi", "g"):
                    # Small scores: there is no factor before softmax, and the gradient of phi's bias is 0 but for
                    # roundings, which grow with them.
                    gain = self.value_gain if part == "g" else self.score_gain
                    out.conv(f"layers.{i}.{part}", channels, channels // 8, 1, gain)
                out.conv(f"layers.{i}.o", channels // 8, channels, 1, self.value_gain)
            elif layer != "M":
                out.conv(f"layers.{i}", channels, layer, 3, self.conv_gain)
                channels = layer
        out.linear(self.head, self.features, 10, self.head_gain)
        return out

    def numbered(self):
        """Each layer with its place in the config, where a ReLU follows each convolution."""
        i = 0
        for layer in self.layers:
            yield i, layer
            i += 1 if layer in ("A", "M") else 2

    def pool(self, x, margin, positive):
        windows = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        first, second = windows.topk(2).values.unbind(-1)
        lead = first - second
        margin(lead[first > 0] if positive else lead)
        return first

    def forward(self, p, images, margin):
        x, outputs = images, {}
        for i, layer in self.numbered():
            if layer == "M":
                x = self.pool(x, margin, True)
            elif layer == "A":
                x = outputs[f"layers.{i}.add"] = self.attention(own(p, f"layers.{i}."), x, margin)
            else:
                x = F.conv2d(x, p[f"layers.{i}.weight"], p[f"layers.{i}.bias"], padding=1)
                outputs[f"layers.{i}"] = x
                margin(x)
                x = torch.relu(x)
        # The program's maps are [height, width, channels].
        outputs = {name: x.permute(0, 2, 3, 1) for name, x in outputs.items()}
        x = x.mean((2, 3)) if "A" in self.layers else x.flatten(1)
        return linear(p, self.head, x), outputs

    def attention(self, p, x, margin):
        def conv(name, x):
            return F.conv2d(x, p[name + ".weight"], p[name + ".bias"])

        theta, phi, g = (conv(name, x) for name in ("theta", "phi", "g"))
        phi, g = (self.pool(y, margin, False).flatten(2) for y in (phi, g))
        weights = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi, -1)  # [batch, queries, keys]
        y = (g @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + conv("o", y)


class Cnn4(Stack):
    """E2: four convolutions."""
    name, seed, batch, image = "cifar-cnn4", 2, 2, (3, 32, 32)
    layers, head, features = [32, 32, "M", 64, "M", 128, "M"], "layers.12", 2048


class Vgg16(Stack):
    """E2: the thirteen convolutions of VGG16. They start smaller than others, so that two images do not diverge at the
    preset's learning rate."""
    name, seed, batch, image = "cifar-vgg16", 291, 2, (3, 32, 32)
    layers = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
    head, features, conv_gain, head_gain = "layers.32", 512, 3.5, 1.0

    def optimizer(self, params):
        return torch.optim.SGD(params, lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)

    def learning_rate(self, step):
        return 0.01 * 0.5 * (1 + math.cos(math.pi * step / 30))


class AttentionCnn(Stack):
    """E3: attention after each convolution. It starts smaller than others, so that roundings do not grow from step to
    step at the preset's learning rate."""
    name, seed, batch, image = "cifar-attention-cnn", 90, 2, (3, 32, 32)
    layers, head, features = [32, "A", 64, "A", 128, "A", 256, "A", 128, "A"], "layers.16", 128
    conv_gain, score_gain, value_gain = 4.0, 0.1, 1.5
    # Of its 1.3 million numbers, mostly less than 1, some are always nearer than in other models.
    kink = 2e-6
    # Before the mean over 1024 places each is the sum of 1024 equal numbers per image: f32 takes 2.6e-5 here and more
    # with other seeds, PyTorch's as well as the program's, which comes to the same numbers.
    looser = {"layers.14.o.bias": 4e-5}


class SmallAttentionCnn(AttentionCnn):
    """The same on images of 16x16, whose attention weights are few enough to be kept."""
    name, seed, image, kink = "cifar-attention-cnn-16", 7, (3, 16, 16), Model.kink
    looser = {}


class PhotosCnn(Stack):
    """E4's partner: residual convolutions with batch norm. A step normalizes by its own images, whatever else by the
    statistics, and these follow the steps."""
    name, seed, batch, image, classes = "photos-cnn", 76, 2, (3, 64, 64), 5

    def optimizer(self, params):
        return torch.optim.Adam(params, lr=1e-4, foreach=False)

    def specs(self):
        out = Specs()

        def normed(place, norm, channels, width):
            scale = round(math.sqrt(self.conv_gain / (9 * channels)), 4)
            out[f"layers.{place}.weight"] = ([width, channels, 3, 3], 0.0, scale)
            out.batch_norm(f"layers.{norm}", width)

        normed("0", "1", 3, 32)
        for i, channels, width in ((4, 32, 64), (7, 64, 128), (10, 128, 192)):
            normed(f"{i}.residual.0", f"{i}.residual.1", channels, width)
            normed(f"{i}.residual.3", f"{i}.residual.4", width, width)
            out.conv(f"layers.{i}.shortcut.0", channels, width, 1)
        out.linear("layers.14", 192, 5)
        return out

    def forward(self, p, images, margin, learns=True):
        outputs = {}

        def normed(place, norm, x):
            x = outputs[f"layers.{place}"] = F.conv2d(x, p[f"layers.{place}.weight"], padding=1)
            mean, var, weight, bias = (
                p[f"layers.{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
            # The program's momentum is f32.
            momentum = torch.tensor(0.1).item()
            x = outputs[f"layers.{norm}"] = F.batch_norm(x, mean, var, weight, bias, learns, momentum, EPS)
            return x

        def relu(x):
            margin(x)
            return torch.relu(x)

        x = self.pool(relu(normed("0", "1", images)), margin, True)
        for i in (4, 7, 10):
            shortcut = f"layers.{i}.shortcut.0"
            kept = F.conv2d(x, p[shortcut + ".weight"], p[shortcut + ".bias"])
            y = relu(normed(f"{i}.residual.0", f"{i}.residual.1", x))
            y = normed(f"{i}.residual.3", f"{i}.residual.4", y)
            x = outputs[f"layers.{i}"] = kept + y
            x = relu(x)
            if i < 10:
                x = self.pool(x, margin, True)
        outputs = {name: x.permute(0, 2, 3, 1) for name, x in outputs.items()}
        return linear(p, "layers.14", x.mean((2, 3))), outputs

    def infer(self, p, images):
        return self.forward(p, images, lambda x: None, learns=False)


# ---- a transformer over whole sequences ----

class PhotoVit(Model):
    """E4: heads and MLP that project the whole sequence, softmax over the query axis, the product as one einsum."""
    name, seed, batch, image, classes = "photos-vit-52m", 1, 2, (3, 64, 64), 5

    def optimizer(self, params):
        return torch.optim.Adam(params, lr=1e-4, foreach=False)

    def specs(self):
        out = Specs()
        out.conv("patch_embed.proj", 3, 128, 16)
        out.token("cls_token", 1, 1, 128)
        out.token("pos_embed", 1, 17, 128)
        for i in range(2):
            out.norm(f"blocks.{i}.norm1", 128)
            for h in range(2):
                for part in "qkv":
                    out.linear(f"blocks.{i}.attn.heads.{h}.{part}", 1088, 1088)
            out.norm(f"blocks.{i}.norm2", 128)
            out.linear(f"blocks.{i}.mlp.fc1", 2176, 4352)
            out.linear(f"blocks.{i}.mlp.fc2", 4352, 2176)
        out.linear("head", 128, 5)
        return out

    def forward(self, p, images, margin):
        outputs = {}
        x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=16)
        x = outputs["patch_embed.proj"] = x.flatten(2).transpose(1, 2)
        x = torch.cat([p["cls_token"].expand(len(x), -1, -1), x], 1)
        x = outputs["pos_embed"] = x + p["pos_embed"]
        for i in range(2):
            own_p = own(p, f"blocks.{i}.")
            y = norm(own_p, "norm1", x).unflatten(2, (2, 64))
            q, k, v = (torch.stack([
                linear(own_p, f"attn.heads.{h}.{part}", y[:, :, h].flatten(1)).unflatten(1, (17, 64))
                for h in range(2)], 1) for part in "qkv")  # [batch, heads, tokens, channels]
            weights = torch.softmax(torch.einsum("bhqc,bhkc->bhqk", q, k), 2)
            x = x + torch.einsum("bhqk,bhkc->bqhc", weights, v).flatten(2) / 8.0
            y = linear(own_p, "mlp.fc1", norm(own_p, "norm2", x).flatten(1))
            margin(y)
            x = outputs[f"blocks.{i}.add2"] = x + linear(own_p, "mlp.fc2", torch.relu(y)).unflatten(1, (17, 128))
        return linear(p, "head", x.mean(1)), outputs


MODELS = [Mnist, Stem, Cifar, Fashion, Flat, Cosine, Learned, Decoder, Cnn4, Vgg16, AttentionCnn, SmallAttentionCnn, PhotosCnn,
          PhotoVit]
