"""How fast whole training steps and rankings are, beside what the machine could do and what a peer does.

Every case runs in a process of its own, so that threads are set before torch starts and peaks of memory are its own.
A machine is rarely quiet: what is compared is measured in one process, limits before and after the case (the larger
counts) and two cases of a ratio in turns. Only the peer, which is slower by orders, and ranks have processes apart.

Rates are of the best repeat. Positives count once, however many sides of them are corrupted; scored negatives count
all. In figures, "x NAME" is times the speed of NAME and "share of NAME" the part of the time that it alone would take.
"""
