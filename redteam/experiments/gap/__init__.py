"""Theory against practice: what models of a grid of trainers and epsilons account for, and what attacks measure."""
