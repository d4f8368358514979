"""Faults and attacks on real files, processes and servers, drawn from a seed, each held against a mark.

All of them in a small dose, which is CI's, or some with as many rounds as their marks ask for:

    python scripts/stress
    python scripts/stress kills --dose full

Modules with a function `run` are stresses; the others help them.
"""
