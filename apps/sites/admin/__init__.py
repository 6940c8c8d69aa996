"""The fleet's rows, as staff see and change them. Django loads this package; each module registers its own."""

from apps.sites.admin import burn_ins, drains, feeds, freezes, gpus, nodes, partners, pools, sites

__all__ = ["burn_ins", "drains", "feeds", "freezes", "gpus", "nodes", "partners", "pools", "sites"]
