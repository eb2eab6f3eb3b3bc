"""Clients on other processes and machines, by Flower: simulated on Ray, or behind a SuperLink.

The server's loop stays in the process of `redteam train`, with its checkpoints, its noise and its secrets. What runs at
Flower's server is a relay: it takes each round's task out of a folder, sends it to the nodes and puts the answers back.

    job.py      what clients need, as files: model, settings, and each one's rows; and a client of it
    mailbox.py  the folder between the loop and the relay
    apps.py     relay and client as Flower's apps: the one file that knows its types
    links.py    Flower's processes: a SuperLink, a run of the apps on it, and its status
    engine.py   an engine of all this
    exchange.py the requests of secure aggregation, and what nodes do with them
    masking.py  secure aggregation by both
"""
