"""Pre-trains the tiny model that PGPO-JAX ships: `python -m experiments.pretrain_tiny`."""

from experiments.pretrain_tiny._command import Config as Config, main as main, pretrain as pretrain
from experiments.pretrain_tiny._data import Corpus as Corpus
from experiments.pretrain_tiny._tokenizer import build_tokenizer as build_tokenizer
