"""The golden models of kind `convnet`, see golden_models.py: small networks of each kind of block, with timm's names."""
import math

import torch
import torch.nn.functional as F

from golden_models import Model, Specs


class Convnet(Model):
    batch, image, tolerance = 3, (3, 32, 32), 2e-5
    eps, act, stem_pool = 1e-5, staticmethod(torch.relu), False

    def optimizer(self, params):
        return torch.optim.Adam(params, lr=1e-3, foreach=False)

    def specs(self):
        """Those that a pass asks for, in the order in which it does."""
        self.p, self.out = None, Specs()
        self.run(torch.zeros(1, *self.image, dtype=torch.float64))
        return self.out

    def forward(self, p, images, margin, learns=True):
        self.p, self.margin, self.learns, self.outputs = p, margin, learns, {}
        logits = self.run(images)
        # The program's maps are [height, width, channels].
        return logits, {name: x.permute(0, 2, 3, 1) for name, x in self.outputs.items()}

    def infer(self, p, images):
        return self.forward(p, images, lambda x: None, learns=False)

    def parameter(self, name, shape, center, scale):
        if self.p is not None:
            return self.p[name]
        self.out[name] = (list(shape), center, round(scale, 4))
        # A variance must not be 0.
        return torch.full(shape, center, dtype=torch.float64)

    def conv(self, name, x, out, kernel, stride=1, groups=1, padding=None, bias=False):
        fan_in = x.shape[1] // groups * kernel**2
        weight = self.parameter(name + ".weight", (out, x.shape[1] // groups, kernel, kernel), 0.0, math.sqrt(6 / fan_in))
        bias = self.parameter(name + ".bias", (out,), 0.0, 0.1) if bias else None
        x = F.conv2d(x, weight, bias, stride, kernel // 2 if padding is None else padding, groups=groups)
        if self.p is not None and (kernel > 1 or stride > 1):
            self.outputs[name] = x
        return x

    def affine(self, name, features):
        return (self.parameter(f"{name}.weight", (features,), 1.0, 0.1), self.parameter(f"{name}.bias", (features,), 0.0, 0.1))

    def batch_norm(self, name, x):
        weight, bias = self.affine(name, x.shape[1])
        mean = self.parameter(name + ".running_mean", (x.shape[1],), 0.0, 0.1)
        var = self.parameter(name + ".running_var", (x.shape[1],), 1.0, 0.1)
        if self.p is None:
            return x
        # The program's momentum is f32.
        momentum = torch.tensor(0.1).item()
        x = self.outputs[name] = F.batch_norm(x, mean, var, weight, bias, self.learns, momentum, self.eps)
        return x

    def activate(self, x):
        if self.p is not None:
            self.margin(x)
            if self.act is F.relu6:
                self.margin(6 - x)
        return self.act(x)

    def layer(self, conv, norm, x, *sizes, **more):
        return self.activate(self.batch_norm(norm, self.conv(conv, x, *sizes, **more)))

    def add(self, name, kept, made):
        x = kept + made
        if self.p is not None:
            self.outputs[name + ".add"] = x
        return x

    def classify(self, name, x):
        weight = self.parameter(name + ".weight", (self.classes, x.shape[1]), 0.0, math.sqrt(3 / x.shape[1]))
        return F.linear(x, weight, self.parameter(name + ".bias", (self.classes,), 0.0, 0.1))


class Basic(Convnet):
    """Two stages of ResNet's basic blocks after the stem for large images."""
    name, seed = "convnet-basic", 1

    def run(self, x):
        x = self.layer("conv1", "bn1", x, 16, 7, 2)
        if self.p is not None:
            windows = F.pad(x, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 2).unfold(3, 3, 2).flatten(4)
            first, second = windows.topk(2).values.unbind(-1)
            self.margin((first - second)[first > 0])
        x = F.max_pool2d(x, 3, 2, 1)
        for stage, width, stride in ((1, 16, 1), (2, 24, 2)):
            for block in range(2):
                name, stride = f"layer{stage}.{block}", stride if block == 0 else 1
                y = self.layer(name + ".conv1", name + ".bn1", x, width, 3, stride)
                y = self.batch_norm(name + ".bn2", self.conv(name + ".conv2", y, width, 3))
                if stride > 1 or x.shape[1] != width:
                    x = self.batch_norm(name + ".downsample.1", self.conv(name + ".downsample.0", x, width, 1, stride))
                x = self.activate(self.add(name, x, y))
        return self.classify("fc", x.mean((2, 3)))


class Bottleneck(Convnet):
    """Two stages of one bottleneck after the stem for small images."""
    name, seed, image = "convnet-bottleneck", 2, (3, 16, 16)

    def run(self, x):
        x = self.layer("conv1", "bn1", x, 12, 3)
        for stage, width, stride in ((1, 12, 1), (2, 20, 2)):
            name = f"layer{stage}.0"
            y = self.layer(name + ".conv1", name + ".bn1", x, width, 1)
            y = self.layer(name + ".conv2", name + ".bn2", y, width, 3, stride)
            y = self.batch_norm(name + ".bn3", self.conv(name + ".conv3", y, 4 * width, 1))
            x = self.batch_norm(name + ".downsample.1", self.conv(name + ".downsample.0", x, 4 * width, 1, stride))
            x = self.activate(self.add(name, x, y))
        return self.classify("fc", x.mean((2, 3)))


class Inverted(Convnet):
    """MobileNetV2's blocks: one without and three with a convolution that widens, one of them residual."""
    name, seed, act = "convnet-inverted", 9, staticmethod(F.relu6)
    # The next batch norm removes what a block's last bias adds, if no sum is between them.
    floor = 2e-7

    def run(self, x):
        x = self.layer("conv_stem", "bn1", x, 16, 3, 2)
        y = self.layer("blocks.0.0.conv_dw", "blocks.0.0.bn1", x, 16, 3, groups=16)
        x = self.batch_norm("blocks.0.0.bn2", self.conv("blocks.0.0.conv_pw", y, 8, 1))
        for stage, block, width, stride in ((1, 0, 12, 2), (1, 1, 12, 1), (2, 0, 20, 1)):
            name, wide = f"blocks.{stage}.{block}", 6 * x.shape[1]
            y = self.layer(name + ".conv_pw", name + ".bn1", x, wide, 1)
            y = self.layer(name + ".conv_dw", name + ".bn2", y, wide, 3, stride, groups=wide)
            y = self.batch_norm(name + ".bn3", self.conv(name + ".conv_pwl", y, width, 1))
            x = self.add(name, x, y) if block > 0 else y
        x = self.layer("conv_head", "bn2", x, 40, 1)
        return self.classify("classifier", x.mean((2, 3)))


class Convnext(Convnet):
    """Two stages of ConvNeXt; there are no kinks."""
    name, seed, kink, eps = "convnet-convnext", 1, 0.0, 1e-6

    def layer_norm(self, name, x):
        """Over the last axis."""
        return F.layer_norm(x, x.shape[-1:], *self.affine(name, x.shape[-1]), self.eps)

    def map_norm(self, name, x):
        return self.layer_norm(name, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def mlp(self, name, x, out):
        weight = self.parameter(name + ".weight", (out, x.shape[-1]), 0.0, math.sqrt(3 / x.shape[-1]))
        return F.linear(x, weight, self.parameter(name + ".bias", (out,), 0.0, 0.1))

    def run(self, x):
        x = self.map_norm("stem.1", self.conv("stem.0", x, 20, 4, 4, padding=0, bias=True))
        for stage, width, blocks in ((0, 20, 1), (1, 36, 2)):
            if stage > 0:
                x = self.map_norm(f"stages.{stage}.downsample.0", x)
                x = self.conv(f"stages.{stage}.downsample.1", x, width, 2, 2, padding=0, bias=True)
            for block in range(blocks):
                name = f"stages.{stage}.blocks.{block}"
                y = self.conv(name + ".conv_dw", x, width, 7, groups=width, bias=True).permute(0, 2, 3, 1)
                y = F.gelu(self.mlp(name + ".mlp.fc1", self.layer_norm(name + ".norm", y), 4 * width))
                y = self.mlp(name + ".mlp.fc2", y, width) * self.parameter(name + ".gamma", (width,), 0.5, 0.25)
                x = self.add(name, x, y.permute(0, 3, 1, 2))
        return self.classify("head.fc", self.layer_norm("head.norm", x.mean((2, 3))))


MODELS = [Basic, Bottleneck, Inverted, Convnext]
