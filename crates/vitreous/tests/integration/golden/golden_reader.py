"""The golden models that read strips of digits: an encoder and a decoder, as golden_models.py has the others."""
import math

import torch
import torch.nn.functional as F

from golden_models import Model, Specs, linear, norm, own, sine_cosine, ten_epochs


class Reader(Model):
    """E5: an encoder over patches of the strip and a decoder over the words given, in pre-norm form."""
    name, seed, batch, image = "read-digits", 1, 5, (1, 28, 140)
    width, hidden, heads, depth, decoder_depth, post = 64, 128, 4, 4, 2, False
    clip = 1.0

    def optimizer(self, params):
        return torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, foreach=False)

    def learning_rate(self, step):
        return ten_epochs(1e-3, step)

    def strips(self):
        return [[(7 * i + 3 * j) % 10 for j in range(1 + 3 * i % 5)] for i in range(self.batch)]

    def labels(self):
        """The digits and the end; -1 means no target."""
        return torch.tensor([(digits + [11] + [-1] * 5)[:6] for digits in self.strips()])

    def given(self):
        """The start, the digits, and padding, which the decoder sees as any other word."""
        return torch.tensor([([10] + digits + [12] * 5)[:6] for digits in self.strips()])

    def specs(self):
        out, width = Specs(), self.width

        def block(name, attentions):
            for i in range(len(attentions) + 1):
                out.norm(f"{name}.norm{i + 1}", width)
            for attention in attentions:
                for part in ("q", "k", "v", "proj"):
                    # Small scores and values: the gradient of a key's bias is 0 but for roundings, which grow with them.
                    gain = {"q": 0.25, "k": 0.25, "v": 1.0, "proj": 3.0}[part]
                    out.linear(f"{name}.{attention}.{part}", width, width, gain)
            out.linear(f"{name}.mlp.fc1", width, self.hidden)
            out.linear(f"{name}.mlp.fc2", self.hidden, width)

        out.conv("patch_embed.proj", 1, width, 7)
        out["words.weight"] = ([13, width], 0.0, round(math.sqrt(3.0 / width), 4))
        for i in range(self.depth):
            block(f"encoder.blocks.{i}", ["attn"])
        for i in range(self.decoder_depth):
            block(f"decoder.blocks.{i}", ["attn", "cross_attn"])
        if not self.post:
            out.norm("encoder.norm", width)
            out.norm("decoder.norm", width)
        out.linear("head", width, 13, 1.0)
        return out

    def attention(self, p, queries, keys, mask=None):
        queries, keys = queries.transpose(0, 1), keys.transpose(0, 1)  # [tokens, batch, width]
        bias = torch.cat([p[f"{part}.bias"] for part in "qkv"])
        out, _ = F.multi_head_attention_forward(
            queries, keys, keys, self.width, self.heads, None, bias, None, None, False, 0.0, p["proj.weight"],
            p["proj.bias"], need_weights=False, attn_mask=mask, use_separate_proj_weight=True,
            q_proj_weight=p["q.weight"], k_proj_weight=p["k.weight"], v_proj_weight=p["v.weight"])
        return out.transpose(0, 1)

    def half(self, p, number, x, work):
        """Half a block, and its sum, which is the same where norms stand before."""
        name = f"norm{number}"
        total = x + work(x if self.post else norm(p, name, x))
        return norm(p, name, total) if self.post else total, total

    def mlp(self, p, y, margin):
        y = linear(p, "mlp.fc1", y)
        margin(y)
        return linear(p, "mlp.fc2", torch.relu(y))

    def forward(self, p, images, margin):
        outputs = {}
        x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=7)
        x = x.flatten(2).transpose(1, 2)
        outputs["patch_embed.proj"] = x
        x = x + sine_cosine(80, self.width, x.dtype)
        for i in range(self.depth):
            own_p = own(p, f"encoder.blocks.{i}.")
            attn = own(own_p, "attn.")
            x, _ = self.half(own_p, 1, x, lambda y: self.attention(attn, y, y))
            x, total = self.half(own_p, 2, x, lambda y: self.mlp(own_p, y, margin))
            outputs[f"encoder.blocks.{i}.add2"] = total
        memory = x if self.post else norm(p, "encoder.norm", x)
        x = F.embedding(self.given(), p["words.weight"]) * math.sqrt(self.width)
        x = outputs["words.pos_encoding"] = x + sine_cosine(6, self.width, x.dtype)
        later = torch.full((6, 6), -math.inf, dtype=x.dtype).triu(1)
        for i in range(self.decoder_depth):
            own_p = own(p, f"decoder.blocks.{i}.")
            attn, cross = own(own_p, "attn."), own(own_p, "cross_attn.")
            x, _ = self.half(own_p, 1, x, lambda y: self.attention(attn, y, y, later))
            x, _ = self.half(own_p, 2, x, lambda y: self.attention(cross, y, memory))
            x, total = self.half(own_p, 3, x, lambda y: self.mlp(own_p, y, margin))
            outputs[f"decoder.blocks.{i}.add3"] = total
        return linear(p, "head", x if self.post else norm(p, "decoder.norm", x)), outputs


class PostNorm(Reader):
    """The same with norms after each half of a block, as in the paper."""
    name, seed, post = "read-digits-post-norm", 3, True
