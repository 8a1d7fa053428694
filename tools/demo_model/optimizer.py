"""Muon for matrices, Adam for everything else, on parameters that several processes share.

Each process owns some of the tensors: it alone keeps their moments and writes their new values, so nothing is
sent anywhere. Muon: Jordan et al. 2024 (github.com/KellerJordan/Muon); momentum, then the nearest
half-orthogonal matrix by five Newton-Schulz steps.
"""
import torch

MATRICES = ("_proj.weight", "_proj.linear.weight", "experts.gate_up_proj", "experts.down_proj")
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def is_matrix(name):
    return name.endswith(MATRICES) and "patch_embedder" not in name


def orthogonal(g):
    """Newton-Schulz on [batch, out, in], in bf16."""
    a, b, c = COEFFICIENTS
    turned = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if turned else g
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.transpose(1, 2) if turned else x).float()


class Optimizer:
    """`params` and every entry of `gradients` are name -> tensor; `mine` are the names this process owns."""

    def __init__(self, params, gradients, mine, muon_lr, adam_lr, momentum=0.95, decay=0.01, betas=(0.9, 0.98)):
        self.params, self.gradients, self.mine = params, gradients, mine
        self.muon_lr, self.adam_lr, self.momentum, self.decay, self.betas = muon_lr, adam_lr, momentum, decay, betas
        self.moments = {n: (torch.zeros_like(params[n]),) if is_matrix(n) else
                        (torch.zeros_like(params[n]), torch.zeros_like(params[n])) for n in mine}
        self.average = {n: params[n].detach().clone() for n in mine}
        self.steps, self.frozen = 0, ()

    def state(self):
        return {"moments": self.moments, "average": self.average, "steps": self.steps}

    def restore(self, state):
        self.steps = state["steps"]
        for name in self.mine:
            self.average[name].copy_(state["average"][name])
            for old, new in zip(self.moments[name], state["moments"][name]):
                old.copy_(new)

    @torch.no_grad()
    def step(self, factor, average_decay):
        self.steps += 1
        groups = {}
        for name in self.mine:
            if name.startswith(self.frozen):
                continue
            g = sum(grads[name] for grads in self.gradients) / len(self.gradients)
            if is_matrix(name):
                m = self.moments[name][0]
                m.lerp_(g, 1 - self.momentum)
                g = g.lerp(m, self.momentum)
                halves = g.chunk(2, 1) if name.endswith("gate_up_proj") else (g,)
                for k, half in enumerate(halves):
                    half = half if half.ndim == 3 else half[None]
                    groups.setdefault(tuple(half.shape[1:]), []).append((name, k, half))
            else:
                self._adam(name, g, factor)
        for shape, entries in groups.items():
            updates = orthogonal(torch.cat([e[2] for e in entries]))
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for (name, k, _), update in zip(entries, updates.split([len(e[2]) for e in entries])):
                p = self.params[name]
                p = p.chunk(2, 1)[k] if name.endswith("gate_up_proj") else p
                lr = self.muon_lr * factor
                p.mul_(1 - lr * self.decay)
                p.sub_(update.view(p.shape), alpha=lr * scale)
        if self.steps % 8 == 0:
            for name in self.mine:
                self.average[name].lerp_(self.params[name], 1 - average_decay**8)

    def _adam(self, name, g, factor):
        first, second = self.moments[name]
        b1, b2 = self.betas
        first.lerp_(g, 1 - b1)
        second.lerp_(g.square(), 1 - b2)
        update = first / (1 - b1**self.steps) / ((second / (1 - b2**self.steps)).sqrt() + 1e-10)
        self.params[name].sub_(update, alpha=self.adam_lr(name) * factor)


def adam_rate(name):
    """Learning rates by the size a parameter has at the start."""
    if name.endswith(("embed_tokens.weight", "router.proj.weight")):
        return 3e-3
    if name.endswith(("patch_embedder.input_proj.weight", "position_embedding_table")):
        return 2e-3
    if name.endswith(("std_bias", "std_scale")):
        return 1e-3
    if name.endswith("layer_scalar"):
        return 5e-4
    return 3e-3
