"""From encoded samples to packed training batches of one fixed shape."""
import io
import random

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from config import PATCH, POOLING, SOFT_TOKENS
from encode import target_size

PATCHES = SOFT_TOKENS * POOLING**2
ABILITIES = ("facts", "tools", "images", "thinking", "memory", "system", "unknown")


def patches_of(image):
    """(pixels [n, 768] uint8, positions [n, 2] int64): the nine patches of a pooling cell are neighbours."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    wide, high = target_size(*image.size)
    pixels = vision.resize(pixels, [high, wide], interpolation=vision.InterpolationMode.BICUBIC, antialias=True)
    rows, columns = high // (PATCH * POOLING), wide // (PATCH * POOLING)
    cells = pixels.view(3, rows, POOLING, PATCH, columns, POOLING, PATCH).permute(1, 4, 2, 5, 3, 6, 0)
    y, x = torch.meshgrid(torch.arange(rows * POOLING), torch.arange(columns * POOLING), indexing="ij")
    at = torch.stack((x, y), -1).view(rows, POOLING, columns, POOLING, 2).transpose(1, 2)
    return cells.reshape(-1, 3 * PATCH**2), at.reshape(-1, 2)


def positions_in(branches):
    """Position of each token of a sample: branch 0 counts from 0, every other branch goes on where branch 0 ends."""
    n = len(branches)
    starts = torch.zeros(n, dtype=torch.int64)
    starts[1:] = torch.where(branches[1:] != branches[:-1], torch.arange(1, n), 0)
    begins = starts.cummax(0).values
    return torch.arange(n) - begins + torch.where(branches > 0, (branches == 0).sum(), 0)


class Packer:
    """Endless batches of `rows` rows of `length` tokens with at most `images` images each.

    Samples come in a new random order in every epoch; a row takes the first samples of a short queue that
    still fit. The state (epoch, place in it, queue) is small and can be saved.
    """

    def __init__(self, samples, rows, length, images, slots, prompt_weight, image_token, seed, queue=96):
        self.samples, self.rows, self.length, self.images, self.slots = samples, rows, length, images, slots
        self.prompt_weight, self.image_token, self.seed, self.size = prompt_weight, image_token, seed, queue
        self.epoch, self.place, self.queue, self.order = 0, 0, [], None
        self.count = 0

    def state(self):
        return {"epoch": self.epoch, "place": self.place, "queue": list(self.queue), "count": self.count}

    def restore(self, state):
        self.epoch, self.place, self.queue, self.count = (state[k] for k in ("epoch", "place", "queue", "count"))
        self.order = None

    def _refill(self):
        while len(self.queue) < self.size:
            if self.order is None:
                self.order = list(range(len(self.samples)))
                random.Random(f"{self.seed}/{self.epoch}").shuffle(self.order)
            if self.place == len(self.order):
                self.epoch, self.place, self.order = self.epoch + 1, 0, None
                continue
            self.queue.append(self.order[self.place])
            self.place += 1

    def _fill(self):
        """Rows of sample numbers."""
        rows, images = [], 0
        for _ in range(self.rows):
            row, room = [], self.length
            self._refill()
            k = 0
            while k < len(self.queue):
                sample = self.samples[self.queue[k]]
                if len(sample["ids"]) <= room and images + len(sample["images"]) <= self.images:
                    row.append(self.queue.pop(k))
                    room -= len(sample["ids"])
                    images += len(sample["images"])
                    if room < 12:
                        break
                else:
                    k += 1
            rows.append(row)
        return rows

    def next(self):
        """One batch as a dict of tensors; see network.hidden_states and train.loss_of."""
        rows, length = self.rows, self.length
        shape = (rows, length)
        tokens, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        documents, blocks, branches = torch.full(shape, -1), torch.full(shape, -1), torch.zeros(shape, dtype=torch.int64)
        weights, abilities = torch.zeros(shape), torch.full(shape, -1)
        pixels = torch.zeros(self.images, PATCHES, 3 * PATCH**2, dtype=torch.uint8)
        places = torch.full((self.images, PATCHES, 2), -1)
        soft_at = torch.full((self.images, SOFT_TOKENS), rows * length)
        image = 0
        for r, row in enumerate(self._fill()):
            start = 0
            for number, index in enumerate(row):
                sample = self.samples[index]
                n = len(sample["ids"])
                ids = torch.from_numpy(sample["ids"].astype(np.int64))
                here = slice(start, start + n)
                branch = torch.from_numpy(sample["branches"].astype(np.int64))
                tokens[r, here], positions[r, here], documents[r, here] = ids, positions_in(branch), number
                branches[r, here] = branch
                # the token at i is predicted from i - 1
                target = torch.from_numpy(sample["mask"][1:].astype(np.float32))
                target = torch.where(target > 0, 1.0, self.prompt_weight)
                target[(ids[1:] == self.image_token)] = 0.0
                target[branch[1:] != branch[:-1]] = 0.0
                weights[r, start:start + n - 1] = target
                abilities[r, here] = sample["ability"]
                soft = (ids == self.image_token).nonzero()[:, 0]
                for png in sample["images"]:
                    patch, at = patches_of(Image.open(io.BytesIO(png)))
                    m = len(patch)
                    pixels[image, :m], places[image, :m] = patch, at
                    mine, soft = soft[:m // 9], soft[m // 9:]
                    soft_at[image, :m // 9] = r * length + start + mine
                    blocks[r, start + mine] = image
                    image += 1
                if len(soft):
                    raise ValueError("a sample has more soft tokens than its images give")
                start += n
        documents[documents < 0] = 1 << 20
        flat = weights.flatten()
        wanted = (flat == 1.0).nonzero()[:, 0]
        other = ((flat > 0) & (flat < 1.0)).nonzero()[:, 0]
        generator = torch.Generator().manual_seed(hash((self.seed, self.count)) % (1 << 62))
        self.count += 1
        free = max(0, self.slots - len(wanted))
        other = other[torch.randperm(len(other), generator=generator)[:free]]
        at = torch.cat((wanted[:self.slots], other))
        weight = flat[at]
        pad = self.slots - len(at)
        at = torch.cat((at, at.new_zeros(pad)))
        return {
            "tokens": tokens, "positions": positions, "documents": documents, "blocks": blocks, "branches": branches,
            "pixels": pixels, "places": places, "soft_at": soft_at, "images": image, "at": at,
            "targets": tokens.flatten()[(at + 1).clamp(max=rows * length - 1)],
            "weights": torch.cat((weight, torch.zeros(pad))), "abilities": abilities.flatten()[at],
            "used": int((documents < 1 << 20).sum()), "cut": max(0, len(wanted) - self.slots),
        }
