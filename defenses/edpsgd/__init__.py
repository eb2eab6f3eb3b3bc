"""Private training with exact per-example clipping: a map of this package, in the order of a step.

What is trained, and for how long:

    defense.py      RD102, its settings and what its trainings are going to do; its docstring is the manual page
    private.py      what every private trainer of texts does (RD101 too): settings, their defaults, the noise they need
    plan.py         a training before its first step: mechanism, nominal and accounted epsilon, what must be said of it
    texts.py        a text classifier made ready for noise, and its loss as a `Problem`
    loop.py         all steps of a plan, with checkpoints; a `Stepper` does one of them
    trainer.py      `PrivateTrainer`, for a loop of one's own
    canaries.py     `LoopCanaries`, label canaries beside it
    steps.py        `ExampleSteps`, the stepper of exact clipping
    microbatch.py   `MicrobatchSteps`, the stepper of the paper's mechanism: clipped means, noise layer by layer

One step of `ExampleSteps`:

    1 rows          sampling.py takes them, and divides them into physical parts that fit into memory
    2 rows apart    separation.py asks for the losses of some rows without the others (calls.py, tracing.py,
                    answers.py), leaving model and generators as they were (untouched.py)
    3 forward       patching.py gave each layer the forward of its rule, which runs it on detached parameters
                    (inputs.py) and leaves its uses on the tape (tape.py)
    4 backward      clipper.py -> backward.py: one pass over the uses; squared norms as the gradients come, then the
                    clipped sum into one buffer; no rounding may break the bound (rounding.py); passes.py is what a
                    layer knows of the pass
    5 noise         history.py makes it depend on all that was done so far; noise.py draws it into the buffer
    6 optimiser     the user's own, which sees nothing but the noisy sum

The rules of the layers (layers.py lists them), each a squared norm and a clipped sum out of activations and output
gradients:

    linear.py  convolution.py  attention.py      linear maps, by ghost norms (gram.py)
    embedding.py  tables.py                      tables, by the tokens that meet in one example
    normalisation.py  scales.py                  parameters so small that per-example gradients are made
    recurrent.py  recursion.py  gru.py  unrolled.py
                                                 LSTM, GRU, RNN: linear maps over time
    repeated.py                                  weights that are tied, or used again

Refused by name: refusals.py, checks.py. The compiled kernel, where there is one: kernel.py, `_kernel.c`, its headers.
Of use to callers with large encoders: first_token.py runs the last layer for token 0 alone.
"""

from defenses.edpsgd.defense import EDPSGD
from defenses.edpsgd.trainer import PrivateTrainer

__all__ = ["EDPSGD", "PrivateTrainer"]
