"""How fast whole training steps and rankings are, beside what the machine could do and what a peer does.

Every case runs in a process of its own, so that threads are set before torch starts and peaks of memory are its own.
A machine is rarely quiet: what is compared is measured in one process, limits before and after the case (the larger
counts) and two cases of a ratio in turns. Only the peer, which is slower by orders, and ranks have processes apart.
"""
