"""Sequence tagging over clients, the second task of FedNLP (Lin et al., NAACL Findings 2022): a tag for every word.

Server, clients, selection and engines are those of classification; only the loss of a text is another. An audit tests
classifiers, not taggers.

    texts.py     tagged texts, from CoNLL columns or JSON lines
    spans.py     accuracy and span F1
    tagger.py    a model with a token-classification head: its loss, and its answers
    training.py  trains one by a federated trainer
"""
