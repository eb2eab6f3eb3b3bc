"""Classifiers that can be built, trained and opened: from a config, from a Hugging Face directory, from a bundle."""
