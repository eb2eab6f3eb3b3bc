"""What the settings mean that several trainers have, said once."""

from redteam.plugins.settings import Setting

EPOCHS = Setting("Passes over the rows; none: chosen for rows, labels and model.", "passes", least=1)
BATCH_SIZE = Setting("Rows in one step (private: expected); none: chosen for the rows.", "rows", least=1)
LEARNING_RATE = Setting("Peak learning rate of AdamW; none: the model's.", above=0, most=10)
WEIGHT_DECAY = Setting("Weight decay of AdamW.", least=0)
EPSILON = Setting("The epsilon to be accounted for: chooses the noise; none where noise_multiplier does.", above=0)
NOISE_MULTIPLIER = Setting("Standard deviation of the noise over the clip, instead of epsilon; 0: no noise.", least=0)
DELTA = Setting("The delta of the guarantee, well below 1 / rows.", above=0, below=1)
CLIP = Setting("L2 norm that gradients are clipped to.", above=0)
PHYSICAL_BATCH = Setting("Rows held in memory at once; changes no number.", "rows", least=1)
RUNS = Setting("Trainings on this data that the guarantee covers, tuning included; none: 1, and a warning.", least=1)
WEIGHTS = Setting("What is trained: all; biases, normalisation and classifier; classifier. none: chosen for the model.")
