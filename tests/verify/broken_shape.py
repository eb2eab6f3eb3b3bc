"""Trainers with noise of another shape, or on a grid."""

import numpy as np
import torch
from doubles import Honest
from planting import NAMED, OWN, normal, to


@to(NAMED, "uniform noise of the same variance")
class Uniform(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.uniform(-np.sqrt(3), np.sqrt(3), entries).astype(np.float32)


@to(NAMED, "noise clamped to 2 sigma")
class Clamped(Honest):
    def noise(self, rng, step, layer, entries):
        return np.clip(normal(rng, entries), -2, 2)


@to(NAMED, "noise drawn again beyond 2 sigma")
class Redrawn(Honest):
    def noise(self, rng, step, layer, entries):
        noise = normal(rng, entries)
        while (far := np.abs(noise) > 2).any():
            noise[far] = normal(rng, int(far.sum()))
        return noise


@to(OWN, "noise clamped to 3 sigma")
class Clamped3(Honest):
    def noise(self, rng, step, layer, entries):
        return np.clip(normal(rng, entries), -3, 3)


@to(OWN, "Laplace noise of the same variance")
class Laplace(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.laplace(0, np.sqrt(0.5), entries).astype(np.float32)


@to(OWN, "Student noise of the same variance")
class Student(Honest):
    def noise(self, rng, step, layer, entries):
        return (rng.standard_t(8, entries) / np.sqrt(8 / 6)).astype(np.float32)


@to(OWN, "sum of four uniforms")
class FourUniforms(Honest):
    def noise(self, rng, step, layer, entries):
        return (rng.uniform(-1, 1, (4, entries)).sum(axis=0) * np.sqrt(3 / 4)).astype(np.float32)


@to(OWN, "signs for noise")
class Signs(Honest):
    def noise(self, rng, step, layer, entries):
        return rng.choice(np.float32([-1, 1]), entries)


@to(OWN, "a tenth of the entries without noise")
class Sparse(Honest):
    def noise(self, rng, step, layer, entries):
        return normal(rng, entries) * (rng.random(entries) < 0.9)


@to(OWN, "absolute values of noise")
class OneSided(Honest):
    def noise(self, rng, step, layer, entries):
        return (np.abs(normal(rng, entries)) - 0.798) / 0.603


@to(NAMED, "noise rounded to bfloat16")
class NoiseBf16(Honest):
    kind = torch.bfloat16

    def add(self, sums, noises):
        return super().add(sums, [torch.from_numpy(noise).to(self.kind).float().numpy() for noise in noises])


@to(NAMED, "noise rounded to float16")
class NoiseFp16(NoiseBf16):
    kind = torch.float16


@to(OWN, "noise drawn in float16")
class DrawnFp16(Honest):
    def noise(self, rng, step, layer, entries):
        return normal(rng, entries).astype(np.float16).astype(np.float32)


@to(OWN, "noise rounded to hundredths of sigma")
class Hundredths(Honest):
    def noise(self, rng, step, layer, entries):
        return np.round(normal(rng, entries) * 100) / 100
